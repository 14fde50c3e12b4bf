"""Floor 2: picture -> features -> affinity -> Laplacian -> eigenpairs -> shards and masks.

>>> import eigen
>>> extractor = eigen.extractor("lowlevel")
>>> pairs = eigen.eigenvectors(image, extractor, k=5)  # doctest: +SKIP
"""

from eigen import shards
from eigen.extractors import extractor
from eigen.graphs import GraphSpec
from eigen.pairs import Eigenpairs
from eigen.picture import eigenvectors

__all__ = ["Eigenpairs", "GraphSpec", "eigenvectors", "extractor", "shards"]
