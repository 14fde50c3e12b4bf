"""Laplacian eigenvectors of images, and open-vocabulary segmentation with them.

>>> import eigenshape as es
>>> pairs = es.eigenvectors("cat.jpg", "dino_vits16", k=5)          # doctest: +SKIP
>>> with es.open_shards("results/pascal/eigenvectors") as shards:   # doctest: +SKIP
...     pairs = shards["2007_000033"]
>>> model = es.load("model_final.safetensors")                      # doctest: +SKIP
>>> labels = es.segment("cat.jpg", ["cat", "sofa"], model)          # doctest: +SKIP

Importing this package is cheap: each name is loaded on first use. All errors raised deliberately
derive from `EigenshapeError`. docs/api.md lists the names with examples, docs/extending.md
shows how to add an extractor, a solver, a data set or a fusion rule.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from _eigenshape_floors import require

if TYPE_CHECKING:
    from data.errors import EigenshapeError
    from eigen.extractors.spec import ExtractorSpec
    from eigen.graphs.build import GraphSpec
    from eigen.graphs.pixels import PixelSpec
    from eigen.joint import joint_segments
    from eigen.mask_spec import MaskSpec
    from eigen.object_spec import ObjectSpec
    from eigen.pairs import Cells, Eigenpairs
    from eigen.segments.partition import segments
    from eigen.solvers.spec import SolveSpec
    from eigen.store.shards import open as open_shards
    from eigenshape.discovery import joint_eigenvectors, objects
    from eigenshape.functions import eigenvectors, eigenvectors_of, extractor
    from eval.model import Model
    from eval.refine import refine
    from eval.trained import load, segment

__version__ = "0.1.0"

__all__ = [
    "Cells",
    "Eigenpairs",
    "EigenshapeError",
    "ExtractorSpec",
    "GraphSpec",
    "MaskSpec",
    "Model",
    "ObjectSpec",
    "PixelSpec",
    "SolveSpec",
    "__version__",
    "eigenvectors",
    "eigenvectors_of",
    "extractor",
    "joint_eigenvectors",
    "joint_segments",
    "load",
    "objects",
    "open_shards",
    "refine",
    "segment",
    "segments",
]

_HOMES = {
    "Cells": ("eigen.pairs", "Cells"),
    "Eigenpairs": ("eigen.pairs", "Eigenpairs"),
    "EigenshapeError": ("data.errors", "EigenshapeError"),
    "ExtractorSpec": ("eigen.extractors.spec", "ExtractorSpec"),
    "GraphSpec": ("eigen.graphs.build", "GraphSpec"),
    "MaskSpec": ("eigen.mask_spec", "MaskSpec"),
    "Model": ("eval.model", "Model"),
    "ObjectSpec": ("eigen.object_spec", "ObjectSpec"),
    "PixelSpec": ("eigen.graphs.pixels", "PixelSpec"),
    "SolveSpec": ("eigen.solvers.spec", "SolveSpec"),
    "eigenvectors": ("eigenshape.functions", "eigenvectors"),
    "eigenvectors_of": ("eigenshape.functions", "eigenvectors_of"),
    "extractor": ("eigenshape.functions", "extractor"),
    "joint_eigenvectors": ("eigenshape.discovery", "joint_eigenvectors"),
    "joint_segments": ("eigen.joint", "joint_segments"),
    "load": ("eval.trained", "load"),
    "objects": ("eigenshape.discovery", "objects"),
    "open_shards": ("eigen.store.shards", "open"),
    "refine": ("eval.refine", "refine"),
    "segment": ("eval.trained", "segment"),
    "segments": ("eigen.segments.partition", "segments"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    require("data", "eigen")
    if module.startswith("eval."):
        require("models", "eval")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
