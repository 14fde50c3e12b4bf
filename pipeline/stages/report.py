"""Stage `report`: one HTML page on the eigenvectors of a data set."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

import eigen.masks
from data.errors import ImageError
from data.pictures import read_image_stamped
from data.progress import progress
from eigen.store import shards
from eval import report
from pipeline import manifest
from pipeline.config import Config
from pipeline.records import Record
from pipeline.stages.index import read_provenance, read_quarantine

log = logging.getLogger(__name__)


def run(
    dataset: str,
    entries: Sequence[manifest.Entry],
    folder: Path,
    records: Sequence[Record],
    quarantine: Path,
    provenance: Path,
    masks: Path,
    output: Path,
    config: Config,
) -> None:
    """Write the report of the shards in `folder`; `masks` is the folder that it names."""
    with shards.open(folder) as pairs:
        rows = list(_rows(pairs, _seconds(records)))
        chosen = report.sample(rows, config.report_photos)
        paths = manifest.paths(entries)
        ids = progress(chosen.ids, len(chosen.ids), "report")
        strips = [_strip(id, paths[id], pairs, config) for id in ids]
    set_aside = read_quarantine(quarantine)
    origins = read_provenance(provenance)
    facts = _facts(origins, folder, masks)
    page = [
        report.summary(
            photos=len(entries),
            done=len(rows),
            quarantined=len(set_aside),
            seconds=sum(row.seconds or 0.0 for row in rows) or None,
            facts=facts,
        ),
        report.photos(rows, strips, note=chosen.rule),
        report.solvers(rows),
        report.quarantine([(row.id, row.stage, row.reason) for row in set_aside]),
        *_configurations(origins),
    ]
    report.write(output, page, title=f"Eigenvectors of {dataset}")
    log.info("report -> %s", output)


def _rows(pairs: shards.ShardFolder, seconds: dict[str, float]) -> Iterator[report.PhotoRow]:
    """Rows from the columns of the shards, without reading their vectors."""
    for shard in pairs.shards:
        yield from report.photo_rows(shard.table(), seconds)


def _seconds(records: Sequence[Record]) -> dict[str, float]:
    """Seconds of each image, summed over its stages."""
    total: dict[str, float] = {}
    for record in records:
        for id, seconds in record.seconds.items():
            total[id] = total.get(id, 0.0) + seconds
    return total


def _strip(id: str, path: str, pairs: shards.ShardFolder, config: Config) -> report.Strip:
    (image, note), stored = _image(id, path, pairs), pairs[id]
    if image is None and config.masks.upsampling == "guided":  # it needs the image
        masks: Iterable[np.ndarray] = ()
    else:
        masks = eigen.masks.each_mask(
            stored, method=config.masks.method, upsampling=config.masks.upsampling, image=image
        )
    return report.photo_strip(id, image, stored, masks, note=note)


def _image(id: str, path: str, pairs: shards.ShardFolder) -> tuple[np.ndarray | None, str]:
    """The image from which the eigenpairs were computed, or None and why it is not shown."""
    try:
        image, stamp = read_image_stamped(path)
    except ImageError as error:
        return None, f"The image is not shown: {error}"
    shard, row = pairs.place(id)
    stored = str(shard.table()["sha256"][row])
    if (stored and stamp.sha256 != stored) or image.shape[:2] != pairs[id].size:
        return None, f"The image is not shown: {path} changed after its eigenvectors were computed."
    return image, ""


def _configurations(origins: Sequence[dict]) -> Iterator[report.Section]:
    """The configuration of the shards, or all of them where they differ."""
    distinct = {json.dumps(entry["config"], sort_keys=True): entry["config"] for entry in origins}
    for number, config in enumerate(distinct.values(), start=1):
        title = "Configuration" if len(distinct) == 1 else f"Configuration {number}"
        yield report.configuration(config, title=title)


def _facts(origins: Sequence[dict], folder: Path, masks: Path) -> dict[str, str]:
    facts = {"shards": str(folder), "masks": f"{masks}/ID_k0.png, ..."}
    for entry in origins:
        versions = ", ".join(f"{name} {version}" for name, version in entry["software"].items())
        facts["extractor"] = entry["extractor"]
        facts["weights (SHA-256)"] = entry["weights_sha256"] or "the extractor has none"
        facts["software"] = versions
        facts["machine"] = entry["machine"]
    return facts
