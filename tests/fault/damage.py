"""Damaged files: reading one gives what was written or an error that names it, nothing else.

Every kind of file that this software writes and reads is damaged in every way that disks, copies
and editors know, and read by the function that reads it in use.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import coco_results, stored_features, weight_files
from data.errors import EigenshapeError
from data.pictures import read_label
from data.png import mask_origin
from data.sazs.splits import Lists
from data.sealed import read_json, read_table
from eigen.store import packed, shards
from eigen.store.maps import read_mask
from eval.sazs.words import PACKAGED
from pipeline import chain, manifest, mask_files, origins, records, requests
from pipeline.stages import index
from pipeline.stages.segments import SegmentReader
from tests.fault import material, watchdog
from tests.fault.table import Row
from train import checkpoint, history, unread

GOLDEN = Path(__file__).parents[1] / "golden" / "version1"
LIMIT = 60.0
"""Seconds after which a read hangs; whole milliseconds are normal."""


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    name : str
    file : str
        Path below the folder of the material.
    read : callable
        From the path of the file to its content, as a comparable value.
    partial : bool
        Whether a part of the content may come back: a log, whose damaged lines are left out.
    """

    name: str
    file: str
    read: Callable[[Path], Any]
    partial: bool = False


def _shard(path: Path) -> Any:
    shard = shards.Shard(path)
    try:
        pairs = [material.as_json(vars(shard.pairs(n))) for n in range(len(shard.ids()))]
        return material.as_json([shard.attributes(), shard.table()]), pairs
    finally:
        shard.close()


def _folder(path: Path) -> Any:
    with shards.open(path.parent) as found:
        return [
            (id, found.place(id)[0].path.name, material.as_json(vars(found[id]))) for id in found
        ]


def _packed(format: packed.Format) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        reader = packed.PackedReader(path, format)
        try:
            attributes, names = reader.attributes(), ("id", "sha256", "size", "grid", "cells")
            columns = {name: reader.column(name) for name in names}
            rows = {
                name: reader.rows(name, 0, int(reader.column(offset)[-1]))
                for name, offset in format.ragged.items()
                if name in reader._ragged
            }
            return material.as_json([attributes, columns, rows])
        finally:
            reader.close()

    return read


def _mask(path: Path) -> Any:
    return material.as_json([read_mask(path), mask_origin(path)])


def _weights(path: Path) -> Any:
    found = weight_files.read(path)
    return material.as_json([found.kind, dict(found.content), dict(found.recipe)])


def _segments(path: Path) -> Any:
    reader = SegmentReader(path)
    return material.as_json([reader.ids, reader.attributes(), [*map(list, reader.rows())]])


def _segment_map(path: Path) -> Any:
    return material.as_json(SegmentReader(path.with_name("features.h5")).labels(path.stem))


def _answer(path: Path) -> Any:
    return read_json(path, EigenshapeError)


def _stored(path: Path) -> Any:
    return material.as_json(stored_features.read(path))


def _quarantine_of_training(path: Path) -> Any:
    return read_table(path, unread.COLUMNS, EigenshapeError)


KINDS = (
    Kind("eigenvector shard", "results/folder/eigenvectors/shard-00000.h5", _shard),
    Kind("eigenvector shard of version 1", "version1/shard-00000.h5", _folder),
    Kind("shard manifest.json", "results/folder/eigenvectors/manifest.json", _folder),
    Kind("shard manifest.json of version 1", "version1/manifest.json", _folder),
    Kind("features", "staged/folder/features/shard-00000.h5", _packed(chain.FEATURES)),
    Kind("Laplacians", "staged/folder/laplacian/shard-00000.h5", _packed(chain.LAPLACIANS)),
    Kind("manifest.csv", "results/folder/manifest.csv", manifest.read),
    Kind("quarantine.csv", "results/folder/quarantine.csv", index.read_quarantine),
    Kind("provenance.json", "results/folder/provenance.json", index.read_provenance),
    Kind(
        "record",
        "results/folder/records/eigenvectors-00000.json",
        lambda path: records.read_all([path]),
    ),
    Kind("request", "request.json", requests.read),
    Kind(
        "list of masks",
        "results/folder/masks/shard-00000.csv",
        lambda path: read_table(path, mask_files.COLUMNS, EigenshapeError),
    ),
    Kind("mask", "results/folder/masks/folder_k3/*_k1.png", _mask),
    Kind("label map", "label.png", lambda path: material.as_json(read_label(path))),
    Kind("checkpoint", checkpoint.LATEST, _weights),
    Kind("weights", checkpoint.FINAL, _weights),
    Kind(
        "history of a training run",
        history.FILE,
        lambda path: [material.as_json(row) for row in history.read(path.parent)],
        partial=True,
    ),
    Kind("quarantine of a training run", "quarantine.csv", _quarantine_of_training),
    Kind("features of segments", "results/folder/segments/features.h5", _segments),
    Kind("label map of segments", "results/folder/segments/*.png", _segment_map),
    Kind("objects", "results/folder/objects.json", coco_results.read_results),
    Kind("images of objects", "results/folder/objects.images.json", origins.read_about),
    Kind("clusters", "results/folder/clusters/clusters.json", origins.read_about),
    Kind("record of a stage", "results/folder/records/masks-00000.json", _answer),
    Kind("packaged words", "words.safetensors", _weights),
    Kind("stored features", f"{material.STORED}.safetensors", _stored),
    Kind("lists of a benchmark", "lists.json", lambda path: vars(Lists.load(path))),
    Kind("scores", "scores.json", lambda path: read_json(path, EigenshapeError)),
)


def make(folder: Path) -> None:
    """One file of each kind below `folder`."""
    material.write_photos(folder / "photos")
    material.make_results(folder / "photos", folder / "results")
    material.make_discovery(folder / "photos", folder / "results")
    material.make_results(folder / "photos", folder / "staged", path="staged")
    shutil.copy(PACKAGED, folder)
    material.write_stored(folder)
    shutil.copytree(GOLDEN, folder / "version1")
    material.write_weights(folder)
    material.write_training(folder)
    material.write_lists(folder / "lists.json")
    material.write_scores(folder / "scores.json")
    material.write_label(folder / "label.png")
    photos = tuple(requests.Photo.of(p.stem, str(p)) for p in sorted((folder / "photos").iterdir()))
    requests.Request("shard", {"k": 3, "graph": "patch"}, photos).write(folder / "request.json")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` with one fault; never equal to it."""
    while True:
        result = _FAULTS[rng.randrange(len(_FAULTS))](bytearray(data), rng)
        if result != data:
            return bytes(result)


def _span(data: bytearray, rng: random.Random) -> slice:
    length = min(len(data), rng.choice((1, 2, 8, 64, 512, 4096)))
    start = rng.randrange(len(data) - length + 1)
    if rng.random() < 0.5:
        start -= start % length
    return slice(start, start + length)


def _truncated(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def _flipped(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _zeroed(data: bytearray, rng: random.Random) -> bytearray:
    span = _span(data, rng)
    data[span] = bytes(span.stop - span.start)
    return data


def _noise(data: bytearray, rng: random.Random) -> bytearray:
    span = _span(data, rng)
    data[span] = rng.randbytes(span.stop - span.start)
    return data


def _swapped(data: bytearray, rng: random.Random) -> bytearray:
    one = _span(data, rng)
    length = one.stop - one.start
    start = rng.randrange(len(data) - length + 1)
    other = slice(start, start + length)
    data[one], data[other] = data[other], data[one]
    return data


def _doubled(data: bytearray, rng: random.Random) -> bytearray:
    span = _span(data, rng)
    data[span.stop : span.stop] = data[span]
    return data


def _removed(data: bytearray, rng: random.Random) -> bytearray:
    del data[_span(data, rng)]
    return data


def _extended(data: bytearray, rng: random.Random) -> bytearray:
    return data + rng.randbytes(rng.choice((1, 32, 512)))


_FAULTS = (
    *(_truncated, _flipped, _flipped, _flipped, _zeroed, _noise, _swapped, _doubled, _removed),
    _extended,
)


@dataclass
class Reads:
    """Damage files in a copy of the material, one at a time, and judge what reading gives."""

    material: Path
    seed: int
    scratch: Path

    def __post_init__(self) -> None:
        shutil.copytree(self.material, self.scratch)
        self.files = [_file(self.scratch, kind) for kind in KINDS]
        self.data = [path.read_bytes() for path in self.files]
        self.expected = [kind.read(path) for kind, path in zip(KINDS, self.files, strict=True)]

    def __call__(self, number: int) -> tuple[str, str]:
        which = number % len(KINDS)
        kind, path = KINDS[which], self.files[which]
        path.write_bytes(damaged(self.data[which], random.Random(f"{self.seed}-{number}")))
        try:
            found = kind.read(path)
        except EigenshapeError as error:
            complaint = _complaint(str(error), path)
            return ("obscure", f"case {number}: {complaint}") if complaint else ("", "")
        except Exception as error:
            return "obscure", f"case {number}: {type(error).__name__}: {error}"[:300]
        finally:
            path.write_bytes(self.data[which])
        if found == self.expected[which] or (
            kind.partial and _is_part(found, self.expected[which])
        ):
            return "", ""
        return "faked", f"case {number}: other data was read"


def _file(root: Path, kind: Kind) -> Path:
    return min(root.glob(kind.file))


def _is_part(found: list[Any], expected: list[Any]) -> bool:
    rest = iter(expected)
    return all(row in rest for row in found)


def _complaint(message: str, path: Path) -> str:
    """What is wrong with an error message about a damaged file; "" if nothing."""
    if str(path.parent) not in message:
        return f"does not name the file: {message}"[:300]
    if "\n" in message or len(message) > 1000:
        return f"is not one short line: {message}"[:300]
    return ""


def run(count: int, budget: float, seed: int, *, processes: int = 2) -> list[Row]:
    """Damage and read `count` files, as far as `budget` (seconds) allows."""
    rows = [Row(kind.name) for kind in KINDS]
    with tempfile.TemporaryDirectory(prefix="damage-", dir=_memory()) as name:
        root = Path(name)
        make(root / "material")
        cases = watchdog.Cases(
            prepare=lambda slot: Reads(
                root / "material", seed, Path(tempfile.mkdtemp(dir=root)) / "copy"
            ),
            count=count,
            deadline=time.monotonic() + budget,
            limit=LIMIT,
            notes=root / "notes",
        )
        watchdog.run(rows, cases, processes=processes)
    return rows


def _memory() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
