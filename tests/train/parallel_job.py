"""A small training run under torchrun: `... parallel_job.py OUT STEPS [DIE_RANK DIE_STEP]`.

The batch of all processes together is the same however many there are. Each process leaves its loss
of every step in OUT/loss_RANK.jsonl. The process DIE_RANK is killed before step DIE_STEP.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn

from pipeline.commands import one_line_errors
from train import checkpoint, distributed, engine
from train.loading import make_loader
from train.sampling import BatchSampler, Draw, generator
from train.schedule import poly

GLOBAL_BATCH, SAMPLES, SEED = 8, 40, 5


class Points(torch.utils.data.Dataset):
    """Random points that depend on their draw alone."""

    def __getitem__(self, draw: Draw) -> np.ndarray:
        return generator(SEED, draw).standard_normal(4).astype(np.float32)

    def __len__(self) -> int:
        return SAMPLES


def collate(points: list[np.ndarray]) -> dict[str, torch.Tensor]:
    x = torch.from_numpy(np.stack(points))
    return {"x": x, "y": x.sum(1, keepdim=True)}


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("steps", type=int)
@click.argument("die", type=int, nargs=-1)
def main(out: Path, steps: int, die: tuple[int, ...]) -> None:
    with one_line_errors(), distributed.start("cpu") as world:
        torch.manual_seed(SEED)
        model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
        out.mkdir(exist_ok=True)
        losses = (out / f"loss_{world.rank}.jsonl").open("a")

        def loss(network: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            if (world.rank, run.step) == die:
                os.kill(os.getpid(), signal.SIGKILL)
            error = nn.functional.mse_loss(network(batch["x"]), batch["y"])
            print(json.dumps([run.step, error.item()]), file=losses, flush=True)
            return {"total": error}

        run = engine.Training(
            model,
            torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
            schedule=poly(steps),
            loss=loss,
            settings=engine.Settings(out=out, steps=steps, save_every=3),
            world=world,
        )
        if (out / checkpoint.LATEST).is_file():
            run.resume(out / checkpoint.LATEST)

        def batches(start: int):
            share = GLOBAL_BATCH // world.size
            place = {"rank": world.rank, "size": world.size}
            draws = BatchSampler(SAMPLES, share, seed=SEED, start=start, **place)
            return make_loader(Points(), draws, collate=collate, world=world, workers=1)

        run.run(batches)


if __name__ == "__main__":
    main()
