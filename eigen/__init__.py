"""Floor 2: image -> features -> affinity -> Laplacian -> eigenpairs -> shards and masks.

>>> import eigen
>>> extractor = eigen.extractor("lowlevel")
>>> pairs = eigen.eigenvectors(image, extractor, k=5)  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

from _eigenshape_floors import require

require("data")

if TYPE_CHECKING:
    from eigen.extractors import extractor
    from eigen.extractors.spec import ExtractorSpec
    from eigen.graphs.spec import GraphSpec, PixelSpec
    from eigen.mask_spec import MaskSpec
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

_HOMES = {
    "Eigenpairs": "eigen.pairs",
    "ExtractorSpec": "eigen.extractors.spec",
    "GraphSpec": "eigen.graphs.spec",
    "MaskSpec": "eigen.mask_spec",
    "PixelSpec": "eigen.graphs.spec",
    "SolveSpec": "eigen.solvers.spec",
    "eigenvectors": "eigen.picture",
    "extractor": "eigen.extractors",
    "shards": "eigen.store.shards",
}


def __getattr__(name: str) -> Any:
    # At first use: settings alone need neither SciPy nor OpenCV.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_HOMES[name])
    value = module if name == "shards" else getattr(module, name)
    globals()[name] = value
    return value
