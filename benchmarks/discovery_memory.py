"""Peak memory of the stages on eigenvectors, with 100 and with 1,000 images.

    python -m benchmarks.discovery_memory
    python -m benchmarks.discovery_memory --images 100 --images 1000 --stage objects

Small images are drawn, their eigenvectors computed once for the largest number, and each stage runs
as a command of its own over the first 100, ...; its peak is the resident size that the system
reports when it ends. The bytes of a second run of `objects` are compared with those of the first.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

from benchmarks import _harness
from data.files import sha256
from pipeline.commands import help_text
from pipeline.layout import Layout

SIZE = (64, 96)
STAGES = ("objects", "segments", "clusters")
EXTRACTOR = ("--extractor", "lowlevel")


def draw(folder: Path, count: int) -> None:
    """Images of one to three blobs on a ground of another colour."""
    folder.mkdir()
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    for number in range(count):
        rng = np.random.default_rng(number)
        image = np.full((*SIZE, 3), rng.integers(60, 200, 3), np.float64)
        for _ in range(rng.integers(1, 4)):
            y, x, radius = rng.integers(15, 50), rng.integers(15, 80), rng.integers(8, 18)
            image[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = rng.integers(0, 256, 3)
        noisy = np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:06d}.png")


def run(*words: object) -> tuple[float, float]:
    """Run a command of the pipeline; its peak in MiB and its seconds."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "pipeline", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(f"{' '.join(command)} failed with {process.returncode}")
    return usage.ru_maxrss / 1024, time.perf_counter() - started


def measure(count: int, stages: tuple[str, ...]) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        draw(root / "images", count)
        here = ("--dataset", "folder", "--results-root", root)
        images = ("--folder", root / "images")
        run("manifest", *here, *images, "--shard-size", 1000)
        run("fused", *here, "--shard", 0, *EXTRACTOR, "--k", 6)
        run("index", *here)
        row: dict[str, object] = {"images": count}
        for stage in STAGES:
            more = (*images, "--clusters", 5) if stage == "clusters" else EXTRACTOR
            peak, seconds = run(stage, *here, *more)
            if stage in stages:
                row |= {f"{stage} MiB": peak, f"{stage} s": seconds}
        path = Path(Layout("", str(root), 0).objects("folder"))
        before = sha256(path)
        path.unlink()
        run("objects", *here, *EXTRACTOR)
        return {**row, "same bytes": str(sha256(path) == before)}


@click.command(help=help_text(__doc__))
@click.option("--images", "counts", type=int, multiple=True, default=(100, 1000))
@click.option("--stage", "stages", type=click.Choice(STAGES), multiple=True, default=STAGES)
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/benchmarks"))
def main(counts: tuple[int, ...], stages: tuple[str, ...], out: Path) -> None:
    _harness.report("discovery_memory", [measure(count, stages) for count in counts], out)


if __name__ == "__main__":
    main()
