"""Tensors inside a TorchScript archive, read without compiling or running what it holds.

OpenAI published CLIP as such archives. One is a ZIP file: `*/data.pkl` pickles the tree of modules,
whose tensors refer to raw little-endian storages `*/data/0`, `*/data/1`, ... The pickle is read by
an unpickler that accepts tensors, plain containers and modules, and refuses everything else.
"""

from __future__ import annotations

import collections
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def read(path: str | Path) -> dict[str, Tensor]:
    """Every tensor attribute of the archive's modules under its dotted name, on the CPU.

    Raises
    ------
    pickle.UnpicklingError
        The archive refers to something other than tensors, containers and modules.
    KeyError, zipfile.BadZipFile, EOFError
        Parts are missing or damaged.
    """
    with zipfile.ZipFile(path) as archive:
        pickles = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise KeyError("data.pkl")
        with archive.open(pickles[0]) as file:
            root = _Unpickler(file, archive, pickles[0].removesuffix("data.pkl")).load()
    return dict(_tensors(root, ""))


class _Module:
    """A module of the archive: only its attributes are kept."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.attributes = state


def _tensors(module: _Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in getattr(module, "attributes", {}).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return type(name, (_Module,), {})
        if module == "torch" and name in _DTYPES:
            return name
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch.jit._pickle":
            return list  # typed lists come as build_intlist(values) etc.
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, reference: tuple[str, str, str, str, int]) -> Tensor:
        _, storage, key, _, _ = reference
        data = bytearray(self._archive.read(f"{self._folder}data/{key}"))
        if not data:
            return torch.empty(0, dtype=_DTYPES[storage])
        return torch.frombuffer(data, dtype=_DTYPES[storage])


def _tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    return torch.as_strided(storage, size, stride, offset)
