"""Floor 2: image -> features -> affinity -> Laplacian -> eigenpairs -> shards and masks.

>>> import eigen
>>> extractor = eigen.extractor("lowlevel")
>>> pairs = eigen.eigenvectors(image, extractor, k=5)  # doctest: +SKIP
"""

# ruff: noqa: E402 - the check comes before the imports that it is about
from _eigenshape_floors import require

require("data")

from eigen.extractors import extractor
from eigen.extractors.spec import ExtractorSpec
from eigen.graphs.build import GraphSpec
from eigen.graphs.pixels import PixelSpec
from eigen.masks import MaskSpec
from eigen.pairs import Eigenpairs
from eigen.picture import eigenvectors
from eigen.solvers.spec import SolveSpec
from eigen.store import shards

__all__ = [
    "Eigenpairs",
    "ExtractorSpec",
    "GraphSpec",
    "MaskSpec",
    "PixelSpec",
    "SolveSpec",
    "eigenvectors",
    "extractor",
    "shards",
]
