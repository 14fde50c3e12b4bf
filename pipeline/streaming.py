"""Images to eigenpairs on a busy GPU: decode ahead, solve in batches, write behind.

Worker processes decode. Two threads feed the GPU, one window of images at a time: one with features
in batches of equal size, one with all the window's graphs at once (`eigen.solvers.batched`). The
second uses the CPU at times, for the small Ritz problems; meanwhile the GPU computes the features
of the next window, another is decoded and the last one is written. Only images are read
from disk and only shards are written, and memory holds three windows for any number of images.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from data.pictures import read_image_stamped
from eigen.extractors.contract import cells_of
from eigen.graphs.build import GraphSpec
from eigen.picture import from_solution, reduced
from eigen.solvers.solution import Solution
from pipeline.chain import Solved, extractor_for
from pipeline.config import Config
from pipeline.manifest import Entry
from pipeline.outcome import Outcome, quarantined
from pipeline.workers import run_ordered

if TYPE_CHECKING:
    from eigen.extractors.vit import ViT  # it imports torch

BATCHES_IN_WINDOW = 8


def streams(config: Config) -> bool:
    """Whether images of this configuration are streamed: a network on a GPU, dense patch graphs."""
    on_gpu = extractor_for(config).device.startswith("cuda")
    return on_gpu and config.graph == GraphSpec() and config.solve.solver in ("auto", "batched")


@dataclass(frozen=True)
class Decoded:
    """A decoded image: its pixels, reduced if need be; its full size (H, W); its file's SHA-256."""

    pixels: np.ndarray
    size: tuple[int, int]
    sha256: str


@dataclass(frozen=True)
class Decode:
    """Image file -> pixels. Needs the patch size, not the weights."""

    patch: int
    max_patches: int

    @quarantined
    def __call__(self, entry: Entry) -> Decoded:
        image, stamp = read_image_stamped(entry.path)
        size = image.shape[0], image.shape[1]
        return Decoded(reduced(image, self.patch, self.max_patches), size, stamp.sha256)


def stream(entries: Iterable[Entry], config: Config, *, workers: int) -> Iterator[Outcome[Solved]]:
    """Eigenpairs of images, in their order.

    Parameters
    ----------
    workers : int
        Processes that decode.
    """
    extractor = cast("ViT", extractor_for(config))
    decode = Decode(extractor.patch, config.max_patches)
    decoded = run_ordered(decode, entries, workers=workers)
    window_size = config.machine.batch_size * BATCHES_IN_WINDOW
    # One thread each: both set flags for all of PyTorch (TF32), which another thread would reset.
    with ThreadPoolExecutor(1, "features") as extracting, ThreadPoolExecutor(1, "solve") as solving:
        ahead: Future[list[Outcome[Solved]]] | None = None
        while window := list(islice(decoded, window_size)):
            features = extracting.submit(_extract, window, extractor, config.machine.batch_size)
            current = solving.submit(_solve, window, features, extractor, config)
            if ahead is not None:
                yield from ahead.result()
            ahead = current
        if ahead is not None:
            yield from ahead.result()


def _extract(window: Sequence[Outcome[Decoded]], extractor: ViT, batch_size: int) -> list[Any]:
    images = [outcome.value for outcome in window if outcome.value is not None]
    return extract(images, extractor, batch_size)


def _solve(
    window: Sequence[Outcome[Decoded]],
    extracting: Future[list[Any]],
    extractor: ViT,
    config: Config,
) -> list[Outcome[Solved]]:
    from eigen.solvers.batch import solve_batch

    started = time.perf_counter()
    features = extracting.result()
    solved = iter(solve_batch(features, config.solve, device=extractor.device))
    share = (time.perf_counter() - started) / max(1, len(features))
    return [
        _outcome(outcome, None if outcome.value is None else next(solved), extractor, share)
        for outcome in window
    ]


def extract(images: Sequence[Decoded], extractor: ViT, batch_size: int) -> list[Any]:
    """Features of images of several sizes, in batches of one size, in the order given."""
    of_size = defaultdict(list)
    for index, image in enumerate(images):
        of_size[image.pixels.shape].append(index)
    features: list[Any] = [None] * len(images)
    for indices in of_size.values():
        for start in range(0, len(indices), batch_size):
            batch = indices[start : start + batch_size]
            rows = extractor.features_tensor([images[i].pixels for i in batch])
            for index, row in zip(batch, rows, strict=True):
                features[index] = row
    return features


def _outcome(
    decoded: Outcome[Decoded],
    result: Solution | Exception | None,
    extractor: ViT,
    share: float,
) -> Outcome[Solved]:
    seconds = decoded.seconds + share
    if decoded.value is None:
        return Outcome(decoded.id, None, decoded.reason, decoded.seconds)
    if not isinstance(result, Solution):
        return Outcome(decoded.id, None, str(result), seconds)
    grid = extractor.grid(decoded.value.pixels.shape[:2])
    size = decoded.value.size
    cells = cells_of(extractor, size, decoded.value.pixels.shape[:2])
    solved = Solved(from_solution(result, grid, size, cells), decoded.value.sha256)
    return Outcome(decoded.id, solved, "", seconds)
