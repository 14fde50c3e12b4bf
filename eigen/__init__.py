"""Floor 2: picture -> features -> affinity -> Laplacian -> eigenpairs -> shards and masks.

>>> import eigen
>>> extractor = eigen.extractor("lowlevel")
>>> pairs = eigen.eigenvectors(image, extractor, k=5)  # doctest: +SKIP
"""

from eigen.extractors import extractor
from eigen.graphs.build import GraphSpec
from eigen.pairs import Eigenpairs
from eigen.picture import eigenvectors
from eigen.store import shards

__all__ = ["Eigenpairs", "GraphSpec", "eigenvectors", "extractor", "shards"]
