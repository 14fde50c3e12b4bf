"""Read and write files of network weights: once, completely, and without running code in them.

| kind | file |
|---|---|
| `safetensors` | `.safetensors`; those written here carry a digest of their tensors and recipe |
| `torch` | written by `torch.save`; read with `weights_only=True` |
| `torchscript` | a TorchScript archive, as OpenAI published CLIP |
| `arrays` | `.pkl`: a pickle of NumPy arrays, as detectron2 distributes backbones |

Every checksum in a file is verified before its tensors are returned: the CRCs of ZIP archives
(which torch does not check) and the digest in safetensors files written here.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import array_pickles
from data.errors import WeightsError
from data.files import atomic_path, expanded, sha256, without_nan

if TYPE_CHECKING:
    from torch import Tensor

_RECIPE, _DIGEST = "recipe", "sha256"  # metadata of our safetensors files
_REMEDY = "it is truncated or damaged: download it again, or copy it again from where it was made"
# What readers of damaged files raise.
_DAMAGE = (
    *(EOFError, OSError, RuntimeError, ValueError, LookupError, AttributeError, TypeError),
    *(ArithmeticError, AssertionError, MemoryError, zipfile.BadZipFile, zlib.error, struct.error),
)
# DINO's training checkpoints hold a student and a teacher; the teacher is what is published.
_WRAPPERS = ("teacher", "state_dict", "model")


@dataclass(frozen=True)
class Checkpoint:
    """Everything that one weight file holds.

    Attributes
    ----------
    path : Path
    kind : {"safetensors", "torch", "torchscript", "arrays"}
    content : mapping
        The top level of the file, with tensors on the CPU.
    recipe : mapping
        Training settings in a file written here; empty for other files.
    """

    path: Path
    kind: str
    content: Mapping[str, Any]
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file, the identity of everything that is computed with it."""
        return sha256(self.path)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The weights, without their wrapper and under keys without `module.`.

        Raises
        ------
        WeightsError
            There is no tensor, neither at the top nor in a known wrapper.
        """
        from torch import Tensor

        entries = self.content
        while wrapper := next((w for w in _WRAPPERS if isinstance(entries.get(w), Mapping)), None):
            entries = entries[wrapper]
        tensors = {
            str(key).removeprefix("module."): value
            for key, value in entries.items()
            if isinstance(value, Tensor)
        }
        if not tensors:
            raise WeightsError(
                f"{self.path}: no weights found, neither at the top nor under "
                f"{', '.join(map(repr, _WRAPPERS))}; its entries are "
                f"{sorted(map(str, self.content))[:8]}"
            )
        return tensors


def read(path: str | Path) -> Checkpoint:
    """Read a weight file of any kind.

    Raises
    ------
    WeightsError
        No such file, not a weight file, truncated, damaged, or a pickle that would run code.
    """
    path = expanded(path)
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such file; give the path of weights (.safetensors, .pth, .pt, .pkl)"
        )
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        if path.suffix == ".pkl":
            return _read_arrays(path)
        return _read_torch(path)
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, error)) from error
    except _DAMAGE as error:
        # An error without a number, or EINVAL, is caused by the content and not by the system.
        if isinstance(error, WeightsError) or (
            isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
        ):
            raise
        raise WeightsError(
            f"{path}: not a whole weight file ({_reason(error)}); {_REMEDY}"
        ) from error


def _refusal(path: Path, error: Exception) -> str:
    wanted = re.search(r"GLOBAL (\S+)|asks for (\S+)", str(error))
    if wanted is None:
        return f"{path}: not a whole weight file ({_reason(error)}); {_REMEDY}"
    return (
        f"{path}: refused, because reading it would run {wanted[1] or wanted[2]}; weights are "
        "tensors alone: save the state dict again, best as .safetensors"
    )


def _reason(error: Exception) -> str:
    """The first sentence of an error's message, or its class where it has none."""
    words = str(error.args[0] if isinstance(error, LookupError) and error.args else error)
    return re.split(r"\n|\. ", words.strip())[0][:160] or type(error).__name__


def _mapping(path: Path, content: object) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: expected a mapping of tensors, found {type(content).__name__}")
    return content


def _read_torch(path: Path) -> Checkpoint:
    import torch

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            # Torch does not fill the tensor of an entry that is marked as a folder.
            folders = (info.filename for info in archive.infolist() if info.external_attr & 0x10)
            damaged = archive.testzip() or next(folders, None)
            code = any("/code/__torch__" in name for name in archive.namelist())
        if damaged is not None:
            raise ValueError(f"checksum or attributes of its part {damaged} are wrong")
        if code:
            from data import torchscript

            return Checkpoint(path, "torchscript", torchscript.read(path))
    # DINO's training checkpoints hold the arguments of its command line, which run nothing.
    allowed = torch.serialization.safe_globals([argparse.Namespace])
    with allowed, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hints at unsafe loading, for files that are refused
        content = _mapping(path, torch.load(path, map_location="cpu", weights_only=True))
    recipe = content.get(_RECIPE)
    return Checkpoint(path, "torch", content, recipe if isinstance(recipe, Mapping) else {})


def _read_arrays(path: Path) -> Checkpoint:
    import numpy as np
    import torch

    def tensors(held: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
            for key, value in held.items()
        }

    content = _mapping(path, array_pickles.read(path))
    inner = content.get("model")
    held = {"model": tensors(inner)} if isinstance(inner, Mapping) else tensors(content)
    return Checkpoint(path, "arrays", held)


def _read_safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            content = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    # A flipped bit in the name of an entry must not turn our file into one without a digest.
    if metadata.keys() & {_RECIPE, _DIGEST} and metadata.keys() != {_RECIPE}:
        expected = _digest(content, metadata.get(_RECIPE, ""))
        if metadata.get(_DIGEST) != expected:
            raise ValueError("the digest in its metadata does not match its tensors")
    return Checkpoint(path, "safetensors", content, json.loads(metadata.get(_RECIPE, "{}")))


def write_safetensors(
    path: str | Path, tensors: Mapping[str, Tensor], recipe: Mapping[str, Any] | None = None
) -> None:
    """Write tensors, whole or not at all, with `recipe` and a digest of both as metadata.

    Raises
    ------
    OSError
        The folder cannot be written, or the disk is full; names the file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    held = {key: value.detach().contiguous().cpu() for key, value in tensors.items()}
    text = json.dumps(without_nan(recipe or {}))
    with atomic_path(path) as temporary:
        try:
            save_file(held, temporary, metadata={_RECIPE: text, _DIGEST: _digest(held, text)})
        except SafetensorError as error:
            # The number of an error of the disk is in its text alone.
            found = re.search(r"os error (\d+)", str(error))
            if found is None:
                raise OSError(errno.EIO, str(error)) from error
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


def _digest(tensors: Mapping[str, Tensor], recipe: str) -> str:
    """SHA-256 of names, types, shapes and bytes of tensors, in the order of their names."""
    import torch

    digest = hashlib.sha256(recipe.encode())
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
