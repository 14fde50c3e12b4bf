"""Folders of shards: time to open one of COCO's size, random reads, and the masks stage.

    python -m benchmarks.shard_reads [--images 120000] [--shard-size 256]

The baseline of the masks is the way of version 0.1: for each image open its shard and read the
table, cut all masks at once, write PNGs with Pillow into unlocked temporary files. Both write to
the same disk.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import eigen.masks
from benchmarks._harness import paired
from eigen.pairs import Cells, Eigenpairs
from eigen.store import shards
from pipeline.stages.masks import Item, WriteMasks

ABOUT = {"config": {}, "software": "0", "extractor": "lowlevel", "weights_sha256": ""}


def made_pairs(rng: np.random.Generator, *, k: int = 5, size: tuple[int, int] = (480, 640)):
    """Smooth vectors on the grid of a COCO image at patch 16."""
    grid = size[0] // 16, size[1] // 16
    y, x = np.mgrid[0 : grid[0], 0 : grid[1]]
    waves = [np.sin(a * y / 9 + b * x / 11 + c) for a, b, c in rng.uniform(0.3, 3, (k, 3))]
    return Eigenpairs(
        np.linspace(0, 0.4, k),
        np.stack(waves).astype(np.float32),
        np.full(k, 1e-7, np.float32),
        "made",
        size,
        Cells.of_patches(16),
    )


def write_folder(folder: Path, images: int, shard_size: int) -> None:
    """Shards of `images` images, a few hundred of which differ."""
    rng = np.random.default_rng(0)
    several = [made_pairs(rng) for _ in range(64)]
    paths = []
    for number, start in enumerate(range(0, images, shard_size)):
        paths.append(folder / f"shard-{number:05d}.h5")
        with shards.create(paths[-1], **ABOUT) as append:
            for index in range(start, min(start + shard_size, images)):
                append(f"{index:012d}", several[index % len(several)])
    shards.write_manifest(folder, paths)


def reads_per_second(found: shards.ShardFolder, count: int = 20_000) -> tuple[float, float]:
    """Random reads per CPU second and per second, after each shard was touched once."""
    for shard in found.shards:
        shard.table()
    ids = random.Random(0).choices(list(found), k=count)
    for id in ids:
        found[id]  # blocks are verified when they are read first
    wall, cpu = time.perf_counter(), time.process_time()
    for id in ids:
        found[id]
    return count / (time.process_time() - cpu), count / (time.perf_counter() - wall)


def masks_before(path: Path, index: int, target: Path) -> None:
    """Masks of an image, the way of version 0.1."""
    shard = shards.Shard(path)
    id, pairs = shard.ids()[index], shard.pairs(index)
    target.mkdir(parents=True, exist_ok=True)
    for k, mask in enumerate(eigen.masks.masks(pairs)):
        handle, name = tempfile.mkstemp(prefix=f".{id}.", suffix=".png", dir=target)
        os.close(handle)
        pixels = mask.astype(np.uint8) * np.uint8(255)
        Image.fromarray(pixels).save(name, "PNG", compress_level=1)
        Path(name).chmod(0o644)
        Path(name).replace(target / f"{id}_k{k}.png")


def _all_before(path: Path, count: int, target: Path) -> None:
    for index in range(count):
        masks_before(path, index, target)


def masks_now(path: Path, count: int, target: Path) -> None:
    """The masks of the first images of a shard, as the stage writes them."""
    shard = shards.Shard(path)
    task = WriteMasks(target, "zero", "bilinear", {"run": "0" * 16, "shard": path.name})
    for index, id in enumerate(shard.ids()[:count]):
        task(Item(id, shard.pairs(index), "", ""))


def cpu_ms(ways: Sequence[Callable[[], object]], *, images: int, turns: int) -> np.ndarray:
    """CPU time per image of each way, in ms: (turns, ways), the ways in turns."""
    times = np.empty((turns, len(ways)))
    for turn in range(turns):
        for way, work in enumerate(ways):
            started = time.process_time()
            work()
            times[turn, way] = (time.process_time() - started) / images * 1e3
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=120_000)
    parser.add_argument("--shard-size", type=int, default=256)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, target = Path(name) / "shards", Path(name) / "masks"
        started = time.perf_counter()
        write_folder(folder, arguments.images, arguments.shard_size)
        print(f"written in {time.perf_counter() - started:.1f} s")
        started = time.perf_counter()
        found = shards.open(folder)
        print(f"{len(found)} images in {len(found.shards)} shards opened in "
              f"{time.perf_counter() - started:.2f} s")  # fmt: skip
        per_cpu, per_wall = reads_per_second(found)
        print(f"random reads: {per_cpu:,.0f} per CPU second, {per_wall:,.0f} per second")
        path = found.shards[0].path
        fresh = (target / str(number) for number in itertools.count())  # nothing is overwritten
        ways = (
            lambda: _all_before(path, 64, next(fresh)),
            lambda: masks_now(path, 64, next(fresh)),
        )
        times = paired(*ways, turns=5).times()
        cpu = cpu_ms(ways, images=64, turns=9)
        before, now = np.median(cpu, axis=0)
        ratio = np.median(cpu[:, 0] / cpu[:, 1])
        print(f"masks, CPU per image: before {before:.2f} ms, now {now:.2f} ms, ratio {ratio:.1f}")
        print(f"masks per image: before {times['baseline_s'] / 64e-3:.2f} ms, "
              f"now {times['ours_s'] / 64e-3:.2f} ms, ratio {times['ratio']:.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
