"""Errors raised on purpose: mistakes that the caller can correct, and faults of the input.

All derive from `EigenshapeError`. Every message names the file or setting, what was expected, what
was found, and what to do; the command lines print it as one line. Anything else is a defect of this
software and keeps its traceback.
"""

from __future__ import annotations

from pathlib import Path


class EigenshapeError(Exception):
    """Base class of all errors that this software raises on purpose."""


def message(error: BaseException) -> str:
    """The text of an error for people: of one of the system without its number, file first."""
    file = getattr(error, "filename", None) if isinstance(error, OSError) else None
    return f"{file}: {reason(error)}" if file else reason(error)


def reason(error: BaseException) -> str:
    """As `message`, for a sentence that names the file."""
    if isinstance(error, OSError) and error.strerror is not None:
        return error.strerror
    return str(error) or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, NumPy, OpenCV or torch means that memory ran out."""
    return isinstance(error, MemoryError) or any(part in str(error) for part in _OUT_OF_MEMORY)


_OUT_OF_MEMORY = (
    "can't allocate memory",  # torch, on the CPU
    "out of memory",  # torch, on a GPU
    "Insufficient memory",  # OpenCV
    "Unable to allocate",  # NumPy, from a worker process of torch
)


def out_of_memory(error: BaseException) -> str:
    """One line about an error for which `is_out_of_memory`."""
    lines = str(error).strip().splitlines() or ["no details"]
    telling = [line for line in lines if any(part in line for part in _OUT_OF_MEMORY)]
    return (
        f"not enough memory: {(telling or lines)[-1].strip()}. Choose smaller images, crops or "
        "batches, or fewer processes"
    )


class SettingError(EigenshapeError, ValueError):
    """A setting or argument that does not exist, is out of its range, or contradicts another."""


class ImageError(EigenshapeError, ValueError):
    """An image, mask or label file that cannot be read. `path` is the file, `reason` one clause."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(path, reason)  # both as args, so that the error survives pickling
        self.path, self.reason = Path(path), reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class DatasetError(EigenshapeError, ValueError):
    """A data set whose folders, lists, annotations or labels are missing or inconsistent."""


class VocabularyError(EigenshapeError, ValueError):
    """Class names, prompts or text embeddings that are missing, malformed or do not match."""


class GraphError(EigenshapeError, ValueError):
    """Features or an affinity that do not form a valid graph, or one too small for K eigenpairs."""


class ShardError(EigenshapeError, ValueError):
    """An eigenvector file or folder that is damaged, incomplete or of other settings."""


class WeightsError(EigenshapeError, ValueError):
    """A weight file or checkpoint that cannot be read, or belongs to another network."""


class DeviceError(EigenshapeError, ValueError):
    """A device that this machine does not have."""


class DivergenceError(EigenshapeError, RuntimeError):
    """A training run whose loss or matching cost is no longer finite."""


class OutOfMemoryError(EigenshapeError, RuntimeError):
    """A device that ran out of memory; the message says which settings need less."""


class RunError(EigenshapeError, RuntimeError):
    """A pipeline run that cannot be completed: a killed worker, or images unaccounted for."""
