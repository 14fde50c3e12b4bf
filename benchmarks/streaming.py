"""JPEG to shard: images per second of the whole path and of each stage alone.

    python -m benchmarks.streaming --photos 2000 --workers 16                 # a GPU, pascal_k5
    python -m benchmarks.streaming --photos 2000 --workers 16 --size 480x640 --extractor dino_vits8
    python -m benchmarks.streaming --photos 2000 --workers 16 --autocast bf16
    python -m benchmarks.streaming --photos 24 --device cpu                   # anywhere

The images are scikit-image's, resized and repeated; the weights are random, which changes no
shape. The baseline is the published way, written from its description: image by image, features,
then SciPy's generalised shift-invert on the CPU. It is measured on fewer images, since its time
grows linearly. With features in half precision (`--autocast`), the table shows how far they and the
second eigenvector are from those of float32.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from benchmarks._harness import peak_memory_mib, report
from benchmarks.patch_graph import published
from data.pictures import read_image
from data.synthetic.samples import write_photos
from eigen.graphs import cosine
from eigen.solvers.solve import solve
from eigen.store import shards
from pipeline import chain, manifest, streaming
from pipeline.commands import help_text
from pipeline.config import Config, resolve
from pipeline.stages.shard import Job, fused
from pipeline.workers import run_ordered

FIDELITY = 4
TARGETS = {"pascal_k5": 12_031, "coco_k5": 123_287}


def make_photos(folder: Path, count: int, size: tuple[int, int]) -> list[manifest.Entry]:
    """`count` JPEG files of `size` (H, W), one manifest entry each."""
    sources = [
        Image.open(path).convert("RGB").resize(size[::-1]) for path in write_photos(folder / "s")
    ]
    entries = []
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        sources[number % len(sources)].save(path, quality=90)
        entries.append(manifest.Entry(path.stem, str(path), 0))
    return entries


def rate(run: Callable[[], Any], photos: int) -> tuple[float, Any]:
    """Images per second of a run, and its result."""
    started = time.perf_counter()
    result = run()
    return photos / (time.perf_counter() - started), result


def published_way(entries: list[manifest.Entry], config: Config) -> int:
    """Image by image: decode, features, dense generalised eigenproblem.

    Returns the number of images for which SciPy's shift-invert failed: D - W is singular, and in
    float32 its factor may be so exactly, or the vectors not finite.
    """
    extractor, failed = chain.extractor_for(config), 0
    for entry in entries:
        image = read_image(entry.path)
        try:
            published(extractor([image])[0], None, extractor.grid(image.shape[:2]))
        except (RuntimeError, ValueError) as error:  # ARPACK's and SuperLU's, and LAPACK's
            print(f"{entry.id}: the published way failed: {error}")
            failed += 1
    return failed


def fidelity(entries: list[manifest.Entry], config: Config) -> dict[str, float]:
    """What reduced precision does to the features and the second eigenvector, at the worst.

    1 - cosine with those of float32: the largest of any patch, and of any image.
    """
    precise = config.model_copy(
        update={"extractor": config.extractor.model_copy(update={"autocast": "none"})}
    )
    rows, vectors = [], []
    for entry in entries:
        image = read_image(entry.path)
        pair = [chain.extractor_for(c)([image])[0] for c in (config, precise)]
        rows.append(float(np.einsum("nd,nd->n", *pair).min()))
        second = [solve(cosine.dense(features), 2).vectors[:, 1] for features in pair]
        vectors.append(abs(float(second[0] @ second[1] / np.prod(np.linalg.norm(second, axis=1)))))
    return {"feature_error": 1 - min(rows), "vector_error": 1 - min(vectors)}


def stages(entries: list[manifest.Entry], config: Config, workers: int) -> dict[str, float]:
    """Images per second of decoding, features and solving, each alone."""
    from eigen.solvers.batch import solve_batch

    extractor = chain.extractor_for(config)
    decode = streaming.Decode(extractor.patch, config.max_patches)
    decoding, images = rate(
        lambda: [o.value for o in run_ordered(decode, entries, workers=workers)], len(entries)
    )

    def extracted() -> list[Any]:
        features = streaming.extract(images, extractor, config.machine.batch_size)
        float(features[-1].sum())  # waits for the device
        return features

    extracting, features = rate(extracted, len(entries))
    window = config.machine.batch_size * streaming.BATCHES_IN_WINDOW
    solving, _ = rate(
        lambda: [
            solve_batch(features[i : i + window], config.solve, device=extractor.device)
            for i in range(0, len(features), window)
        ],
        len(entries),
    )
    return {"decode": decoding, "features": extracting, "solve": solving}


@click.command(help=help_text(__doc__))
@click.option("--photos", default=200, show_default=True)
@click.option("--baseline-photos", default=8, show_default=True)
@click.option("--size", default="375x500", show_default=True, help="HxW in pixels.")
@click.option("--extractor", default="dino_vits16", show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--autocast", type=click.Choice(["none", "bf16", "fp16"]), default="none")
@click.option("--batch-size", default=32, show_default=True)
@click.option("--workers", default=2, show_default=True, help="Decoding processes.")
@click.option("--out", default="results/benchmarks", type=click.Path(path_type=Path))
def main(
    photos: int,
    baseline_photos: int,
    size: str,
    extractor: str,
    device: str,
    autocast: str,
    batch_size: int,
    workers: int,
    out: Path,
) -> None:
    height, width = map(int, size.split("x"))
    config = resolve(
        {
            "extractor": extractor,
            "weights": "random:0",
            "device": device,
            "autocast": autocast,
            "batch_size": batch_size,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        entries = make_photos(Path(folder), photos, (height, width))
        job = Job(
            dataset="folder",
            shard=0,
            entries=entries,
            output=Path(folder) / "shard-00000.h5",
            record=Path(folder) / "record.json",
            workers=workers,
        )
        chain.extractor_for(config)([read_image(entries[0].path)])  # warm
        whole, _ = rate(lambda: fused(job, config), photos)
        alone = stages(entries, config, workers)
        compared = entries[:baseline_photos]
        slow, failed = rate(lambda: published_way(compared, config), len(compared))
        changed = fidelity(entries[:FIDELITY], config) if autocast != "none" else {}
        found = shards.Shard(job.output)
        residual = float(np.max(found.table()["residual"]))
    rows: list[dict[str, Any]] = [
        {"what": "JPEG to shard", "photos/s": whole, "residual": residual, **changed},
        *({"what": f"{stage} alone", "photos/s": value} for stage, value in alone.items()),
    ]
    if compared:
        rows[0]["ratio"] = whole / slow
        rows.insert(0, {"what": "published way", "photos/s": slow, "failed": failed})
    slowest = min(alone, key=lambda stage: alone[stage])
    streamed = streaming.streams(config)
    report(
        f"streaming_{extractor}_{size}",
        rows,
        out,
        streamed=streamed,
        bound_by=slowest,
        seconds_for={name: count / whole for name, count in TARGETS.items()},
        peak_memory_mib=peak_memory_mib(),
    )
    print(f"streamed through a GPU: {streamed}; bound by {slowest}")
    for name, count in TARGETS.items():
        print(f"{name} ({count} photos) at this rate: {count / whole:.0f} s")


if __name__ == "__main__":
    main()
