"""Time to plan a data set of COCO's size: list the images, deal them to shards, write the requests.

    python -m benchmarks.planning [--images 123287]

The images are empty files in one folder. First and second time: requests are new, then unchanged.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from pipeline.plan import Plan


def plan(folder: Path, results: Path) -> tuple[int, float, float]:
    """Shards of the plan, its wall-clock and its CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    planned = Plan(
        {"folder": str(folder), "results_root": str(results), "extractor": "lowlevel8"}, claims=True
    )
    planned.check(["folder"])
    planned.targets("folder")(SimpleNamespace())
    for stage in ("manifest", "index", "report"):
        planned.request(stage)(SimpleNamespace(dataset="folder"))
    shards = planned.shards("folder")
    for shard in shards:
        for stage in ("shard", "masks"):
            planned.request(stage)(SimpleNamespace(dataset="folder", shard=shard))
    return len(shards), time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=123_287)
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "images")
        folder.mkdir()
        for number in range(images):
            (folder / f"{number:012d}.jpg").touch()
        for turn in ("first", "second"):
            shards, wall, cpu = plan(folder, Path(name, "results"))
            print(f"{turn}: {images:,} images, {shards} shards: {wall:.1f} s, CPU {cpu:.1f} s")


if __name__ == "__main__":
    main()
