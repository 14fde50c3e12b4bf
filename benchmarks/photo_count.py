"""Time and memory of the pipeline against the number of images: one table and a plot.

    python -m benchmarks.photo_count

JPEG files to eigenvector shards of 1,000 images each, by the workflow's fused stage, in a new
process for each number of images. The images are scikit-image's, reduced and repeated.
Peak memory is that of the process and of its largest worker.
"""

from __future__ import annotations

import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np
from PIL import Image

from benchmarks import _harness
from data.synthetic.samples import write_photos
from pipeline import manifest
from pipeline.commands import help_text
from pipeline.config import resolve
from pipeline.stages.shard import Job, fused

SHARD = 1000
SIZE = 240, 320


def entries(folder: Path, count: int) -> list[manifest.Entry]:
    """`count` images of distinct names but few distinct files, in shards of `SHARD`."""
    files = []
    for source in write_photos(folder / "sources"):
        path = folder / f"{source.stem}.jpg"
        Image.open(source).convert("RGB").resize(SIZE[::-1]).save(path, quality=90)
        files.append(str(path))
    return [
        manifest.Entry(f"{number:06d}", files[number % len(files)], number // SHARD)
        for number in range(count)
    ]


def run(count: int, workers: int) -> dict[str, float]:
    """Seconds and peak memory of one run, in this process."""
    config = resolve({"extractor": "lowlevel", "device": "cpu"})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = entries(folder, count)
        started = time.perf_counter()
        for shard in range(photos[-1].shard + 1):
            output = folder / f"shard-{shard:05d}.h5"
            record = folder / f"record-{shard:05d}.json"
            members = [photo for photo in photos if photo.shard == shard]
            fused(Job("folder", shard, members, output, record, workers=workers), config)
        seconds = time.perf_counter() - started
        written = sum(path.stat().st_size for path in folder.glob("*.h5"))
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {
        "photos": count,
        "seconds": seconds,
        "photos/s": count / seconds,
        "peak_mib": _harness.peak_memory_mib(),
        "worker_peak_mib": children,
        "written_mib": written / 2**20,
    }


def plot(rows: list[dict[str, float]], path: Path) -> None:
    """Seconds and peak memory over the number of images, on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    photos = [row["photos"] for row in rows]
    axes.loglog(photos, [row["seconds"] for row in rows], "o-", label="seconds")
    for column, label in (("peak_mib", "MiB, main process"), ("worker_peak_mib", "MiB, worker")):
        axes.loglog(photos, [row[column] for row in rows], "s--", label=label)
    axes.set(xlabel="photos", title="JPEG to eigenvector shards")
    axes.legend()
    figure.savefig(path, dpi=120)


@click.command(help=help_text(__doc__))
@click.option("--count", "counts", multiple=True, default=(100, 300, 1000, 3000, 10_000))
@click.option("--workers", default=2, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/benchmarks"))
def main(counts: tuple[int, ...], workers: int, out: Path) -> None:
    rows = []
    for count in counts:
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
            rows.append(fresh.submit(run, count, workers).result())
    log_photos, log_seconds = np.log([[row["photos"], row["seconds"]] for row in rows]).T
    exponent = float(np.polyfit(log_photos, log_seconds, 1)[0]) if len(rows) > 1 else None
    _harness.report("photo_count", rows, out, exponent=exponent, workers=workers)
    click.echo(f"seconds grow as photos to the power {exponent}")
    plot(rows, out / "photo_count.png")


if __name__ == "__main__":
    main()
