"""Checks of what a caller of the library passes, so that a mistake is named and not met later."""

from __future__ import annotations

from typing import Any

import numpy as np

from data.errors import SettingError


def described(value: Any) -> str:
    """The type of a value, and its shape, dtype and range where it has them."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        return kind
    text = f"{kind} of shape {tuple(shape)} and dtype {dtype}"
    if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "fiu":
        text += f", values {value.min():.4g} to {value.max():.4g}"
    return text


def check_type(name: str, value: Any, kind: type | tuple[type, ...], expected: str) -> None:
    """Raise `SettingError` unless a value is of a type, `expected` in words."""
    if not isinstance(value, kind):
        raise SettingError(f"{name}: expected {expected}, found {described(value)}")


def whole(name: str, value: Any, *, least: int = 1) -> int:
    """A value as an int; raises `SettingError` unless it is a whole number of at least `least`."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < least:
        raise SettingError(f"{name}: expected a whole number from {least}; found {value!r}")
    return int(value)


def pair(name: str, value: Any) -> tuple[int, int]:
    """A value as two whole numbers from 1, rows and columns; raises `SettingError` otherwise."""
    if isinstance(value, tuple | list | np.ndarray) and len(value) == 2:
        rows, columns = value
        if all(isinstance(n, int | np.integer) and n >= 1 for n in (rows, columns)):
            return int(rows), int(columns)
    raise SettingError(f"{name}: expected two whole numbers, rows and columns, found {value!r}")
