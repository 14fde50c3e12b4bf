"""SAZS networks against `sazs_drn` and `sazs_vitl16`; errors are largest absolute differences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from models.sazs import networks as sazs
from models.sazs.dpt import DPTSegmenter
from models.sazs.drn import DRNSegmenter
from tests.parity.case import Case, available
from tests.parity.fill import fill
from tests.parity.golden import Golden, key_case

FILES = ("sazs_drn.npz", "sazs_vitl16.npz")


def cases(folder: Path) -> Iterator[Case]:
    for golden, check in (
        (Golden.find(folder, "sazs_drn"), _drn),
        (Golden.find(folder, "sazs_vitl16"), _vit),
    ):
        if golden is not None:
            with torch.no_grad():
                yield from available(check(folder, golden))


def _drn(folder: Path, golden: Golden) -> Iterator[Case]:
    model = fill(sazs.build(golden.info["arch"]), golden.info["seed"]).eval()
    assert isinstance(model, DRNSegmenter)
    yield key_case(folder, golden.name, model.state_dict(), model.is_unused)
    picture = golden.picture(golden.info["input"])
    edge, features = model(picture)
    yield golden.case("edge", edge, 5e-5)
    yield golden.case("features", features, 5e-5)
    yield golden.case("base", model.base(picture), 1e-4)


def _vit(folder: Path, golden: Golden) -> Iterator[Case]:
    model = fill(sazs.build(golden.info["backbone"]), golden.info["seed"]).eval()
    assert isinstance(model, DPTSegmenter)
    yield key_case(folder, golden.name, model.state_dict(), model.is_unused)
    for name, suffix in (("small", ""), ("large", "_512")):
        picture = golden.picture(golden.info[name])
        edge, features = model(picture)
        yield golden.case(f"edge{suffix}", edge, 4e-5)
        yield golden.case(f"features{suffix}", features, 4e-5)
        if name == "small":
            tokens, grid = model.pretrained.model.tokens(picture)
            yield golden.case("block11", tokens, 4e-5)
            yield golden.case("pos", model.pretrained.model.position(*grid), 1e-6)
