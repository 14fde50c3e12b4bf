"""A golden file and its own description: seed, inputs, and the part of each array it stores."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from tests.parity.case import Case, Entries, largest_difference
from tests.parity.fill import image

OWN = Path(__file__).parents[1] / "golden"


class Golden:
    """One `.npz` of golden outputs."""

    def __init__(self, path: Path) -> None:
        self.name, self.folder = path.stem, path.parent
        with np.load(path, allow_pickle=False) as file:
            self.file = Entries(self.name, {key: file[key] for key in file.files})
        self.info = Entries(f"{self.name} info", json.loads(str(self.file["info"])))

    @classmethod
    def find(cls, folder: Path, name: str) -> Golden | None:
        """The golden of that name, or None where the folder has none."""
        path = folder / f"{name}.npz"
        return cls(path) if path.is_file() else None

    @staticmethod
    def picture(call: str) -> torch.Tensor:
        """The input written as a call, such as `image(96, 136, 0)`."""
        arguments = ast.parse(call, mode="eval").body
        return image(*(ast.literal_eval(a) for a in arguments.args))  # type: ignore[attr-defined]

    def case(self, key: str, ours, tolerance: float, *, relative: bool = False) -> Case:
        """Ours, whole, against the stored part of array `key` and its shape."""
        if key not in self.file:
            return Case.missing(f"{self.name} {key}")
        ours = np.asarray(ours.detach() if isinstance(ours, torch.Tensor) else ours)
        shape = self.file.get(f"{key}.shape", np.array(self.file[key].shape))
        if ours.shape != tuple(shape):
            return Case(f"{self.name} {key} (shape)", float("inf"), tolerance)
        cut = self.info.get("cuts", {}).get(key)
        theirs = self.file[key]
        error = largest_difference(ours[index(cut)] if cut else ours, theirs)
        if relative:
            error /= float(np.abs(theirs).max()) or 1.0
        return Case(f"{self.name} {key}", error, tolerance)


def index(cut: str) -> tuple[slice, ...]:
    """The slices that a text such as `[:, ::8]` stands for."""
    parts = (part.strip() for part in cut.strip("[]").split(","))
    return tuple(slice(*(int(n) if n else None for n in part.split(":"))) for part in parts)


def key_case(
    folder: Path, name: str, ours: Mapping[str, torch.Tensor], dead: Callable[[str], bool]
) -> Case:
    """How many entries differ from `{name}_keys.json`, the dead ones being absent from ours.

    The layout does not depend on the seed, so a folder without the list is compared with our copy.
    """
    path = folder / f"{name}_keys.json"
    published = json.loads((path if path.is_file() else OWN / path.name).read_text())
    live = {key: list(shape) for key, shape in published.items() if not dead(key)}
    found = {key: list(value.shape) for key, value in ours.items()}
    differing = {key for key in live.keys() | found.keys() if live.get(key) != found.get(key)}
    return Case(f"{name} keys and shapes", float(len(differing)), 0.0)
