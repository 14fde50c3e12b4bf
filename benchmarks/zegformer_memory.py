"""Peak memory of test-time augmentation, by number of sizes and of classes.

    python -m benchmarks.zegformer_memory

A ZegFormer of published size (R-50, 100 queries, random weights, without CLIP's crops, which add
its weights and images of one size) segments an image of 640 x 480 pixels at the published sizes of
ADE20K's augmented test, as they are and mirrored. The largest size is in every row, so that rows of
equal classes differ in the number of views alone. Each row runs in its own process.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import torch
from torch.nn import functional as F

from benchmarks._harness import peak_memory_mib, report
from eval.zegformer.segmenter import Classes, Scoring, Segmenter
from eval.zegformer.tta import Augmented
from models.zegformer.network import ZegFormer
from pipeline.commands import help_text

SIZES = (1200, 400, 500, 600, 700, 800, 900)
LONGEST = 4000
PHOTO = (480, 640)


def peak(classes: int, sizes: int) -> dict[str, float]:
    """Memory in MiB before inference and at its peak; `sizes` 0: without augmentation."""
    torch.manual_seed(0)
    text = F.normalize(torch.randn(classes, 512), dim=1)
    unseen = torch.arange(classes) >= classes - 15
    segmenter = Segmenter(ZegFormer(depth=50), Classes(text, unseen), scoring=Scoring(mode="query"))
    photo = torch.randint(0, 256, (3, *PHOTO), dtype=torch.uint8)
    before = peak_memory_mib()
    if sizes:
        shorts = SIZES[:sizes]
        Augmented(segmenter, shorts=shorts, longest=LONGEST, flip=True).predict([photo], [PHOTO])
    else:
        segmenter.predict([photo], [PHOTO])
    maps = classes * PHOTO[0] * PHOTO[1] * 4 / 2**20
    return {
        "classes": classes,
        "views": 2 * sizes or 1,
        "before_mib": round(before),
        "peak_mib": round(peak_memory_mib()),
        "one_set_of_maps_mib": round(maps),
    }


@click.command(help=help_text(__doc__))
@click.option("--out", default="results/benchmarks", show_default=True, type=Path)
def main(out: Path) -> None:
    rows = []
    for classes in (171, 847):
        for sizes in (0, 1, 2, 7):
            # A process's peak never falls.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                rows.append(pool.submit(peak, classes, sizes).result())
    report("zegformer_memory", rows, out)


if __name__ == "__main__":
    main()
