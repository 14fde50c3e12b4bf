"""Training images per second and peak memory of both systems, at the published sizes.

    python -m benchmarks.training_rate --device cuda --autocast bf16
    python -m benchmarks.training_rate --system zegformer --size 128 --steps 2

The steps are the engine's, with its optimiser, loss terms and checks, on random batches that lie in
main memory, as a loader leaves them. SAZS: ViT-L/16, 512 x 512, 6 images. ZegFormer: ResNet-101,
640 x 640, 4 images of 8 masks each, 156 classes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks._harness import peak_memory_mib, report
from eigen.device import torch_device
from models.sazs import networks as sazs
from models.zegformer.network import ZegFormer, normalised_batch
from pipeline.commands import help_text
from train.distributed import World
from train.engine import Settings, Training
from train.sazs.losses import JointLoss
from train.schedule import poly
from train.zegformer.criterion import Criterion
from train.zegformer.matcher import Target
from train.zegformer.optimizer import adamw

WARM_UP = 2
CLASSES, MASKS = 156, 8
Parts = tuple[nn.Module, Callable[[nn.Module], torch.optim.Optimizer], Any, Any]


def sazs_parts(size: int, device: torch.device) -> Parts:
    """Network, optimiser, loss and batch of a step of SAZS."""
    texts = torch.randn(21, 512, device=device)
    joint = JointLoss(mode="corrected")

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        edge_logits, features = model(sazs.normalised(batch["image"]))
        pair = torch.stack([torch.zeros_like(batch["class_id"]), batch["class_id"] + 1], dim=1)
        log_prob = sazs.log_probabilities(features, texts[pair])
        return joint(log_prob, edge_logits, batch["target"], batch["edges"])

    batch = {
        "image": torch.randint(0, 256, (6, size, size, 3), dtype=torch.uint8),
        "class_id": torch.randint(0, 20, (6,)),
        "target": torch.randint(0, 2, (6, size // 8, size // 8)),
        "edges": torch.randint(0, 2, (6, 1, size // 8, size // 8)),
    }

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), 0.001, momentum=0.9, weight_decay=1e-4)

    return sazs.build("vitl16_384"), optimizer, loss, batch


def zegformer_parts(size: int, device: torch.device) -> Parts:
    """Network, optimiser, loss and batch of a step of ZegFormer."""
    texts = F.normalize(torch.randn(CLASSES, 512, device=device), dim=1)
    criterion = Criterion()

    def loss(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        predictions = model(normalised_batch(batch["image"]), texts, every_layer=True)
        targets = [Target(*pair) for pair in zip(batch["labels"], batch["masks"], strict=True)]
        return criterion(predictions, targets)

    batch = {
        "image": [torch.randint(0, 256, (3, size, size), dtype=torch.uint8) for _ in range(4)],
        "labels": [torch.randperm(CLASSES)[:MASKS] for _ in range(4)],
        "masks": [torch.rand(MASKS, size, size) > 0.8 for _ in range(4)],
    }

    def optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return adamw(model, rate=1e-4, backbone_multiplier=0.1)

    return ZegFormer(depth=101), optimizer, loss, batch


SYSTEMS = {"sazs": (sazs_parts, 512), "zegformer": (zegformer_parts, 640)}


def measured(system: str, size: int, steps: int, device: torch.device, **how: Any) -> dict:
    """One row: images per second after the first steps, which choose kernels, and peak memory."""
    parts, published = SYSTEMS[system]
    torch.manual_seed(0)
    model, optimizer, loss, batch = parts(size or published, device)
    images, started = len(batch["image"]), []

    def batches(start: int) -> Iterator[Any]:
        while True:
            started.append(time.perf_counter())
            yield batch

    with tempfile.TemporaryDirectory() as out:
        run = Training(
            model,
            optimizer(model.to(device)),
            schedule=poly(steps + WARM_UP + 1),
            loss=loss,
            settings=Settings(out=Path(out), steps=steps + WARM_UP + 1, **how),
            world=World(0, 1, device),
        )
        run.run(batches)
    seconds = (started[-1] - started[WARM_UP]) / steps
    on_gpu = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else peak_memory_mib()
    row = {"system": system, "size": size or published, "images": images, **how}
    return row | {"images/s": images / seconds, "peak_mib": round(peak)}


@click.command(help=help_text(__doc__))
@click.option("--system", "systems", multiple=True, type=click.Choice([*SYSTEMS]))
@click.option("--size", default=0, show_default=True, help="Side in pixels; 0: as published.")
@click.option("--steps", default=10, show_default=True, help="Steps to time.")
@click.option("--device", default="auto", show_default=True)
@click.option("--autocast", type=click.Choice(["none", "bf16", "fp16"]), default="none")
@click.option("--channels-last", is_flag=True)
@click.option("--out", default="results/benchmarks", type=click.Path(path_type=Path))
def main(
    systems: tuple[str, ...],
    size: int,
    steps: int,
    device: str,
    autocast: str,
    channels_last: bool,
    out: Path,
) -> None:
    how = {"autocast": autocast, "channels_last": channels_last}
    chosen = torch_device(device)
    rows = [measured(name, size, steps, chosen, **how) for name in systems or SYSTEMS]
    report(f"training_rate_{chosen.type}_{autocast}", rows, out)


if __name__ == "__main__":
    main()
