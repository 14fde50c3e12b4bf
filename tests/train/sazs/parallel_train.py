"""SAZS's training command with one network more, a small ViT that has no batch norm.

    parallel_train.py train --arch tiny ...

A process whose rank is in DIE_RANK is killed before the step DIE_STEP.
"""

from __future__ import annotations

import os
import signal

import sazs
from models.sazs.dpt import Backbone, DPTSegmenter
from models.sazs.networks import ARCHITECTURES, Architecture
from train.engine import Training

take_step = Training._take_step


def tiny(drop_rate: float) -> DPTSegmenter:
    return DPTSegmenter(Backbone(patch=16, dim=24, depth=1, heads=2, grid=4))


def step_or_die(self: Training, stream) -> None:
    place = (str(self.world.rank), str(self.step))
    if place == (os.environ.get("DIE_RANK"), os.environ.get("DIE_STEP")):
        os.kill(os.getpid(), signal.SIGKILL)
    take_step(self, stream)


if __name__ == "__main__":
    ARCHITECTURES["tiny"] = Architecture(tiny, "")
    Training._take_step = step_or_die  # type: ignore[method-assign]
    sazs.main()
