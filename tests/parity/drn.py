"""DRN backbones against `drn_d_105`, `drn_d_22`; errors are largest absolute differences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from models.sazs import drn
from tests.parity.case import Case, available, largest_difference
from tests.parity.fill import fill
from tests.parity.golden import Golden, key_case

ALLOWED = {"drn_d_105": 1e-4, "drn_d_22": 1e-5}
FILES = tuple(f"{arch}.npz" for arch in ALLOWED)


def cases(folder: Path) -> Iterator[Case]:
    for arch, allowed in ALLOWED.items():
        golden = Golden.find(folder, arch)
        if golden is not None:
            yield from available(_trunk(folder, golden, arch, allowed))


def _trunk(folder: Path, golden: Golden, arch: str, allowed: float) -> Iterator[Case]:
    network = fill(drn.backbone(arch), golden.info["seed"], drn.layer_key).eval()
    ours = {drn.layer_key(key): value for key, value in network.state_dict().items()}
    yield key_case(folder, arch, ours, lambda key: key.startswith("fc."))
    stages, x = [], golden.picture(golden.info["input"])
    with torch.no_grad():
        for stage in network:
            x = stage(x)
            stages.append((float(x.mean()), float(x.std())))
    yield golden.case("features", x, allowed)
    difference = largest_difference(np.array(stages), golden.file["stage_mean_std"])
    yield Case(f"{arch} stage_mean_std", difference, allowed)
