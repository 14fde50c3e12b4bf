"""Time and disk space of the targets `pascal_k5` and `coco_k5`, extrapolated from a few images.

    python -m benchmarks.targets
    python -m benchmarks.targets --target pascal_k5 --images datasets/VOC2012/JPEGImages --count 50

Images go through the stages `fused` and `masks` with one thread, and the CPU time, the shard and
the masks of an image are multiplied by the number of images. Without `--images`, scikit-image's
photos are brought to the typical size of each data set (VOC 375 x 500, COCO 480 x 640). DINO's
weights are random, which changes no cost. Left out are the start of each job, and waiting for a
slow disk.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from PIL import Image

from benchmarks import _harness
from data.pictures import SUFFIXES
from data.progress import duration
from data.synthetic.samples import write_photos
from eigen.threads import one_pool
from pipeline import manifest
from pipeline.commands import help_text
from pipeline.config import Config, resolve
from pipeline.stages import masks as masks_stage
from pipeline.stages.shard import Job, fused

TARGETS = {"pascal_k5": (17_125, (375, 500)), "coco_k5": (123_287, (480, 640))}
"""Images of each target, and their typical size (H, W)."""


@dataclass(frozen=True)
class Cost:
    """Of one image: seconds of one core, bytes of its part of a shard, bytes its masks occupy."""

    seconds: float
    shard: float
    masks: float


def typical(folder: Path, size: tuple[int, int]) -> list[Path]:
    """scikit-image's photos as JPEGs of one size."""
    paths = []
    for source in write_photos(folder / "sources"):
        paths.append(folder / f"{source.stem}.jpg")
        Image.open(source).convert("RGB").resize(size[::-1]).save(paths[-1], quality=90)
    return paths


def chosen(folder: Path, count: int) -> list[Path]:
    """Up to `count` images of a folder, evenly spaced by name."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise click.UsageError(f"--images {folder}: expected a folder with images, found none")
    return paths[:: max(1, len(paths) // count)][:count]


@one_pool()
def cost(paths: list[Path], config: Config, folder: Path) -> Cost:
    """Run the two stages on the images, in this process."""
    entries = [manifest.Entry(path.stem, str(path), 0) for path in paths]
    shard, lists = folder / "shard-00000.h5", folder / "masks.csv"
    job = Job("folder", 0, entries, shard, folder / "record.json", workers=1)
    by_id = {entry.id: entry.path for entry in entries}
    began = time.process_time()
    fused(job, config)
    masks_stage.run(shard, by_id, 0, folder / "masks_k5", lists, config, workers=1)
    seconds = time.process_time() - began
    # What small files occupy is more than they hold.
    written = sum(512 * path.stat().st_blocks for path in (folder / "masks_k5").glob("*.png"))
    return Cost(seconds / len(paths), shard.stat().st_size / len(paths), written / len(paths))


def row(target: str, extractor: str, measured: int, one: Cost, cores: int) -> dict[str, object]:
    images = TARGETS[target][0]
    return {
        "target": target,
        "images": f"{images:,}",
        "extractor": extractor,
        "measured on": measured,
        "s per image": round(one.seconds, 3),
        f"time on {cores} cores": duration(images * one.seconds / cores),
        "shards, GB": round(images * one.shard / 1e9, 2),
        "masks, GB": round(images * one.masks / 1e9, 2),
    }


@click.command(help=help_text(__doc__))
@click.option(
    "--target", "targets", multiple=True, type=click.Choice(list(TARGETS)), default=tuple(TARGETS),
    show_default=True,
)  # fmt: skip
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=12, show_default=True, help="Number of images to measure.")
@click.option("--cores", default=8, show_default=True, help="Cores to extrapolate to.")
@click.option(
    "--extractor", "extractors", multiple=True, default=("dino_vits16", "lowlevel8"),
    show_default=True,
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/benchmarks"))
def main(
    targets: tuple[str, ...],
    images: Path | None,
    count: int,
    cores: int,
    extractors: tuple[str, ...],
    out: Path,
) -> None:
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for target in targets:
            size = TARGETS[target][1]
            paths = chosen(images, count) if images else typical(Path(name, target), size)
            for extractor in extractors:
                weights = "random:0" if extractor.startswith("dino") else None
                config = resolve({"extractor": extractor, "weights": weights, "device": "cpu"})
                work = Path(name, target, extractor)
                # Once on a single image, so that what is loaded at first use is not counted.
                (work / "first").mkdir(parents=True)
                cost(paths[:1], config, work / "first")
                one = cost(paths, config, work)
                rows.append(row(target, extractor, len(paths), one, cores))
    _harness.report("targets", rows, out)


if __name__ == "__main__":
    main()
