"""ZegFormer's golden files: sampled arrays, and weights drawn from published keys."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.clip.clip import CLIP
from models.zegformer.network import ZegFormer
from tests.parity.case import Case, Entries, largest_difference
from tests.parity.fill import tensor_for
from tests.parity.golden import OWN

# Stored next to a sampled array.
FIGURES = ("shape", "stride", "stats", "noise")


class Sampled:
    """An `.npz` whose large arrays are kept as every n-th element."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem.removeprefix("zegformer-")
        with np.load(path, allow_pickle=False) as file:
            self.file = Entries(self.name, {key: file[key] for key in file.files})
        self.seed = int(self.file["seed"].item())

    @classmethod
    def find(cls, folder: Path, name: str) -> Sampled | None:
        path = folder / f"zegformer-{name}.npz"
        return cls(path) if path.is_file() else None

    def __getitem__(self, key: str) -> np.ndarray:
        return self.file[key]

    def __contains__(self, key: str) -> bool:
        return key in self.file

    def arrays(self, beginning: str) -> set[str]:
        """What follows `beginning` in the names of the arrays, whole or sampled."""
        names = {key.removesuffix(".sample") for key in self.file}
        names -= {f"{name}.{figure}" for name in names for figure in FIGURES}
        return {name.removeprefix(beginning) for name in names if name.startswith(beginning)}

    def names(self, ending: str) -> list[str]:
        """The parts in front of `ending` of the keys that end with it, in the file's order."""
        return [key.removesuffix(ending) for key in self.file if key.endswith(ending)]

    def case(
        self, key: str, ours, tolerance: float, *, relative: bool = False, share: float = 1.0
    ) -> Case:
        """Ours, whole, against the stored array `key` or its sample.

        relative: differences are divided by the largest value stored.
        share: that part of the values (the closest ones) has to be within the tolerance.
        """
        ours = array(ours)
        if key not in self.file and f"{key}.sample" not in self.file:
            return Case.missing(f"{self.name} {key}")
        if key in self.file:
            theirs = self.file[key]
        else:
            theirs = self.file[f"{key}.sample"]
            if ours.shape != tuple(self.file[f"{key}.shape"]):
                return Case(f"{self.name} {key} (shape)", float("inf"), tolerance)
            ours = ours.ravel()[:: int(self.file[f"{key}.stride"].item())]
        if share < 1 and ours.shape == theirs.shape:
            error = float(np.quantile(np.abs(ours - theirs), share))
        else:
            error = largest_difference(ours, theirs)
        if relative:
            error /= float(np.abs(theirs[np.isfinite(theirs)]).max(initial=0)) or 1.0
        return Case(f"{self.name} {key}", error, tolerance)


def array(values) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().numpy()
    return np.asarray(values)


def published_path(folder: Path, name: str) -> Path:
    """A list that does not depend on the seed: the folder's, else our copy."""
    return folder / name if (folder / name).is_file() else OWN / name


def fill(model: nn.Module, seed: int, *, prefix: str = "") -> nn.Module:
    """Draw the weights of `model` from its published keys; `logit_scale` is ln 100 throughout."""
    state = {}
    for key, value in model.state_dict().items():
        if key.endswith("logit_scale"):
            drawn = np.full(tuple(value.shape), math.log(100), np.float32)
        else:
            drawn = np.asarray(tensor_for(prefix + key, tuple(value.shape), seed))
        state[key] = torch.from_numpy(drawn)
    model.load_state_dict(state)
    return model.eval()


def network(seed: int, **sizes) -> ZegFormer:
    model = fill(ZegFormer(**sizes), seed)
    assert isinstance(model, ZegFormer)
    return model


def clip(seed: int) -> CLIP:
    model = fill(CLIP(), seed).requires_grad_(False)
    assert isinstance(model, CLIP)
    return model
