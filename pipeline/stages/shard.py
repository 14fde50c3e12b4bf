"""Stages over one shard: `fused`, or `features`, `laplacian` and `eigenvectors` one by one.

Each reads the images of a shard, or the file of the stage before, and writes one packed file and
one record. An image that fails is quarantined in the record, and the others continue.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.progress import progress
from eigen.pairs import Cells
from eigen.store import packed, shards
from pipeline import chain, provenance
from pipeline.config import IDENTITY, Config
from pipeline.identity import photos_of, photos_recorded, shard_request
from pipeline.manifest import Entry
from pipeline.outcome import Outcome
from pipeline.records import Record, image_state, read_all
from pipeline.streaming import stream, streams
from pipeline.workers import run_ordered

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Where a stage over a shard reads and writes, and with how many processes.

    Attributes
    ----------
    dataset : str
    shard : int
    entries : sequence of Entry
        The images of the shard.
    output, record : Path
    earlier : sequence of Path
        Records of the earlier stages, which the record of the last one includes.
    workers : int
        Processes on this machine.
    scheduler : str or None
        Address of a dask scheduler that is used instead.
    """

    dataset: str
    shard: int
    entries: Sequence[Entry]
    output: Path
    record: Path
    earlier: Sequence[Path] = ()
    workers: int = 1
    scheduler: str | None = None


def fused(job: Job, config: Config) -> None:
    """Images -> eigenvector shard."""
    made_with = _made_with(config)
    # Before the images are read: one that changes meanwhile is then newer than its record.
    request = shard_request(made_with.config, photos_of(job.dataset, job.entries))
    if streams(config) and job.scheduler is None:
        outcomes = stream(job.entries, config, workers=job.workers)
    else:
        outcomes = _outcomes(job, chain.Fused(config), job.entries)
    with _eigenvector_shard(job, made_with) as append:
        record = _fill(job, "fused", made_with, outcomes, _paths(job.entries), append)
    record.write(job.record, result=job.output, request=request.digest)


def features(job: Job, config: Config) -> None:
    """Images -> features."""
    made_with = _made_with(config, "features")
    with packed.create(job.output, chain.FEATURES, made_with.attributes()) as writer:

        def append(id: str, image: chain.ImageFeatures) -> None:
            features = image.features
            arrays = {"features": features.rows}
            geometry = _geometry(features.size, features.grid, features.cells)
            writer.append(arrays, id=id, sha256=image.sha256, **geometry)

        outcomes = _outcomes(job, chain.ExtractFeatures(config), job.entries)
        record = _fill(job, "features", made_with, outcomes, _paths(job.entries), append)
    record.write(job.record, result=job.output)


def laplacian(job: Job, config: Config, features: Path) -> None:
    """Features -> affinities W; the solver applies L = I - D^-1/2 W D^-1/2 without storing it."""
    source = packed.PackedReader(features, chain.FEATURES)
    made_with = _made_with(config, "laplacian", source)
    with packed.create(job.output, chain.LAPLACIANS, made_with.attributes()) as writer:

        def append(id: str, image: chain.ImageGraph) -> None:
            form, arrays = chain.affinity_arrays(image.graph.W)
            geometry = _geometry(image.size, image.graph.grid, image.graph.cells)
            writer.append(arrays, id=id, sha256=image.sha256, form=form, **geometry)

        rows = _rows(job, source)
        outcomes = _outcomes(job, chain.BuildGraph(config, features), rows)
        record = _fill(job, "laplacian", made_with, outcomes, _paths(rows), append)
    record.write(job.record, result=job.output)


def eigenvectors(job: Job, config: Config, laplacians: Path) -> None:
    """Affinities -> eigenvector shard."""
    source = packed.PackedReader(laplacians, chain.LAPLACIANS)
    made_with = _made_with(config, "eigenvectors", source)
    with _eigenvector_shard(job, made_with) as append:
        rows = _rows(job, source)
        outcomes = _outcomes(job, chain.SolveGraph(config, laplacians), rows)
        record = _fill(job, "eigenvectors", made_with, outcomes, _paths(rows), append)
    record.take_over(read_all(job.earlier))
    request = shard_request(made_with.config, photos_recorded(job.dataset, record.images))
    record.write(job.record, result=job.output, request=request.digest)


def _outcomes(
    job: Job, task: Callable[[Any], Outcome[Any]], items: Sequence[Any]
) -> Iterator[Outcome[Any]]:
    return run_ordered(task, items, workers=job.workers, scheduler=job.scheduler)


def _fill(
    job: Job,
    stage: str,
    made_with: MadeWith,
    outcomes: Iterable[Outcome[Any]],
    paths: Mapping[str, str],
    append: Callable[[str, Any], None],
) -> Record:
    """Append the result of each image, and return the record.

    `paths` has the file of each input image, by id.
    """
    collected = provenance.collect(made_with.config, **made_with.weights)
    images = {id: image_state(path) for id, path in paths.items()}
    record = Record(stage, images=images, provenance=collected)
    for outcome in progress(outcomes, len(paths), f"{stage} shard {job.shard}"):
        record.add(outcome)
        if outcome.value is None:
            log.warning("quarantined %s: %s", outcome.id, outcome.reason)
        else:
            append(outcome.id, outcome.value)
    log.info(
        "%s shard %d: %d images, %d quarantined -> %s",
        stage,
        job.shard,
        len(record.seconds),
        len(record.quarantine),
        job.output,
    )
    return record


def _paths(members: Iterable[Entry | chain.Row]) -> dict[str, str]:
    return {member.id: member.path for member in members}


@contextmanager
def _eigenvector_shard(
    job: Job, made_with: MadeWith
) -> Iterator[Callable[[str, chain.Solved], None]]:
    writer = shards.create(
        job.output,
        config=made_with.config,
        software=provenance.software(),
        **made_with.weights,
    )
    with writer as append:
        yield lambda id, solved: append(id, solved.pairs, solved.sha256)


@dataclass(frozen=True)
class MadeWith:
    """The settings and weights that decided the contents of a file, from all its stages."""

    config: dict[str, Any]
    weights: dict[str, str]

    def attributes(self) -> dict[str, str]:
        """Attributes of a packed file, for the next stage."""
        return {"config": json.dumps(self.config, sort_keys=True), **self.weights}


def _made_with(
    config: Config, stage: str = "fused", source: packed.PackedReader | None = None
) -> MadeWith:
    """The settings of a stage, added to those of the stage before."""
    settings = config.flat(*IDENTITY[stage])
    if source is None:
        extractor = chain.extractor_for(config)
        sha256 = extractor.weights_sha256 or ""
        return MadeWith(settings, {"extractor": extractor.name, "weights_sha256": sha256})
    attributes = source.attributes()
    weights = {name: str(attributes[name]) for name in ("extractor", "weights_sha256")}
    return MadeWith({**json.loads(attributes["config"]), **settings}, weights)


def _rows(job: Job, source: packed.PackedReader) -> list[chain.Row]:
    """Images that the stage before finished, with their paths."""
    if not source.attributes()["count"]:
        return []
    paths = _paths(job.entries)
    ids = source.column("id")
    return [chain.Row(str(id), index, paths[str(id)]) for index, id in enumerate(ids)]


def _geometry(size: tuple[int, int], grid: tuple[int, int], cells: Cells) -> dict[str, np.ndarray]:
    """The columns that place the nodes of an image."""
    return {
        "size": np.asarray(size, np.int32),
        "grid": np.asarray(grid, np.int32),
        "cells": np.asarray(astuple(cells), np.float64),
    }
