"""Pickles of NumPy arrays, as detectron2 distributes backbones, read without running code.

The unpickler accepts only what arrays need; a file that refers to anything else is refused.
"""

from __future__ import annotations

import _codecs
import collections
import importlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np

_multiarray = importlib.import_module("numpy._core.multiarray")

_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _codecs.encode,
    # The module's name before and since NumPy 2.
    **{
        (f"numpy.{core}.multiarray", name): getattr(_multiarray, name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def read(path: str | Path) -> Any:
    """The pickled object; strings of Python 2 are decoded as Latin-1.

    Raises
    ------
    pickle.UnpicklingError
        The file refers to something other than arrays and plain containers, or is no pickle.
    EOFError
        Truncated.
    """
    with Path(path).open("rb") as file:
        try:
            return _Unpickler(file, encoding="latin1").load()
        except (ValueError, IndexError, AttributeError, TypeError) as error:
            raise pickle.UnpicklingError(str(error)) from error
