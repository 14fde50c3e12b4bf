"""Eigenvector shards: the files everything above `eigen` reads.

A shard is one packed HDF5 file (`eigen.store.packed`) of a few hundred pictures.

| dataset | shape, type | meaning |
|---|---|---|
| `id` | (n,) string | picture |
| `size` | (n, 2) int32 | H, W in pixels |
| `grid` | (n, 2) int32 | h, w nodes |
| `offset` | (n + 1,) int64 | rows of picture i are `vectors[offset[i]:offset[i + 1]]` |
| `eigenvalues` | (n, K) float64 | ascending |
| `residual` | (n, K) float32 | see `eigen.pairs.Eigenpairs` |
| `solver` | (n,) string | |
| `vectors` | (sum of h*w, K) float32 | nodes row-major |

Root attributes: `format`, `version`, `software`, `config` (JSON), `extractor`, `weights_sha256`,
`count`. A folder of shards has a `manifest.json` with the SHA-256 and the ids of each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import ShardError
from data.files import atomic_path, sha256
from eigen.pairs import Cells, Eigenpairs
from eigen.store import packed

__all__ = ["Shard", "ShardError", "ShardFolder", "create", "open", "write_manifest"]

FORMAT = packed.Format("eigenshape-eigenvectors", version=1, ragged={"vectors": "offset"})
MANIFEST = "manifest.json"


@contextmanager
def create(
    path: str | Path,
    *,
    config: Mapping[str, Any],
    software: str,
    extractor: str,
    weights_sha256: str,
) -> Iterator[Callable[[str, Eigenpairs], None]]:
    """Write a shard: yields `append(id, pairs)`. The file appears, whole, when the block ends.

    Parameters
    ----------
    config : mapping
        The resolved configuration, stored as JSON.
    software, extractor, weights_sha256 : str
        Version of the software, name of the extractor, hash of its weights ("" if it has none).

    Raises
    ------
    OSError
        As `eigen.store.packed.create`.
    """
    attributes = {
        "software": software,
        "config": json.dumps(config, sort_keys=True),
        "extractor": extractor,
        "weights_sha256": weights_sha256,
    }
    with packed.create(path, FORMAT, attributes) as writer:

        def append(id: str, pairs: Eigenpairs) -> None:
            h, w = pairs.grid
            writer.append(
                {"vectors": np.ascontiguousarray(pairs.vectors.reshape(pairs.k, h * w).T)},
                id=id,
                size=np.asarray(pairs.size, np.int32),
                grid=np.asarray((h, w), np.int32),
                eigenvalues=np.asarray(pairs.eigenvalues, np.float64),
                residual=np.asarray(pairs.residual, np.float32),
                solver=pairs.solver,
            )

        yield append


class Shard:
    """One shard, read picture by picture. Raises `ShardError`, see `packed.PackedReader`."""

    def __init__(self, path: str | Path):
        self._reader = packed.PackedReader(path, FORMAT)
        self._table: dict[str, np.ndarray] | None = None

    @property
    def path(self) -> Path:
        return self._reader.path

    def attributes(self) -> dict[str, Any]:
        """Root attributes, `config` decoded."""
        attributes = self._reader.attributes()
        return {**attributes, "config": json.loads(attributes["config"])}

    def table(self) -> dict[str, np.ndarray]:
        """All columns, read once."""
        if self._table is None:
            names = ("id", "size", "grid", "offset", "eigenvalues", "residual", "solver")
            empty = self._reader.attributes().get("count") == 0
            self._table = {} if empty else {name: self._reader.column(name) for name in names}
        return self._table

    def ids(self) -> list[str]:
        return [str(id) for id in self.table().get("id", ())]

    def pairs(self, index: int) -> Eigenpairs:
        """Eigenpairs of the picture in row `index`."""
        table = self.table()
        start, stop = table["offset"][index : index + 2]
        h, w = (int(n) for n in table["grid"][index])
        if stop - start != h * w:
            raise ShardError(
                f"{self.path}: {table['id'][index]} has {stop - start} rows, its grid {h} x {w}; "
                "delete the file and give the same command again"
            )
        size = int(table["size"][index][0]), int(table["size"][index][1])
        return Eigenpairs(
            eigenvalues=table["eigenvalues"][index],
            vectors=self._reader.rows("vectors", start, stop).T.reshape(-1, h, w),
            residual=table["residual"][index],
            solver=str(table["solver"][index]),
            size=size,
            cells=Cells.inferred(size, (h, w)),
        )

    def close(self) -> None:
        self._reader.close()


class ShardFolder(Mapping[str, Eigenpairs]):
    """All shards of a folder as one mapping from picture id to `Eigenpairs`.

    Nothing but the list of ids is held in memory; each process opens the files it reads. Safe to
    hand to the workers of a DataLoader, forked or spawned.
    """

    def __init__(self, shards: Sequence[Shard], ids: Sequence[Sequence[str]]):
        self._shards = list(shards)
        self._places: dict[str, tuple[int, int]] = {}
        for number, members in enumerate(ids):
            for index, id in enumerate(members):
                if id in self._places:
                    other = self._shards[self._places[id][0]].path
                    raise ShardError(
                        f"{self._shards[number].path}: picture {id!r} is also in {other}; "
                        "the folder mixes two runs: delete it and run again"
                    )
                self._places[id] = (number, index)

    def __getitem__(self, id: str) -> Eigenpairs:
        shard, index = self._places[id]
        return self._shards[shard].pairs(index)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def shards(self) -> list[Shard]:
        return self._shards

    def __enter__(self) -> ShardFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        for shard in self._shards:
            shard.close()


def open(folder: str | Path, *, verify: bool = False) -> ShardFolder:
    """Open a folder of shards.

    Parameters
    ----------
    folder : path
        Holds `*.h5`, and `manifest.json` when the run that made them has ended.
    verify : bool
        Compare every file with its SHA-256 in the manifest first (reads all bytes).

    Raises
    ------
    ShardError
        No shard in the folder, a shard of the manifest missing or changed.
    """
    folder = Path(folder)
    manifest = folder / MANIFEST
    if manifest.exists():
        entries = _read_manifest(manifest)
        for name, entry in entries.items() if verify else ():
            if (found := sha256(folder / name)) != entry["sha256"]:
                raise ShardError(
                    f"{folder / name}: SHA-256 is {found}, {MANIFEST} says {entry['sha256']}; "
                    "delete the shard and give the same command again"
                )
        shards = [Shard(folder / name) for name in entries]
        return ShardFolder(shards, [entry["ids"] for entry in entries.values()])
    shards = [Shard(path) for path in sorted(folder.glob("*.h5"))]
    if not shards:
        raise ShardError(f"{folder}: no shard (*.h5) here; make them with `snakemake pascal_k5`")
    return ShardFolder(shards, [shard.ids() for shard in shards])


def _read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    try:
        entries = json.loads(path.read_text())["shards"]
        for name, entry in entries.items():
            if not (path.parent / name).exists():
                raise ShardError(
                    f"{path.parent / name}: listed in {MANIFEST} but missing; "
                    "give the same command again to make it"
                )
            entry["sha256"], entry["ids"]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ShardError(
            f"{path}: not a shard manifest ({error}); delete it and run again"
        ) from error
    return entries


def write_manifest(folder: str | Path, shards: Sequence[str | Path]) -> Path:
    """Record the SHA-256 and the ids of finished shards in `folder/manifest.json`."""
    folder = Path(folder)
    entries = {
        Path(path).name: {"sha256": sha256(path), "ids": Shard(path).ids()} for path in shards
    }
    with atomic_path(folder / MANIFEST) as temporary:
        temporary.write_text(
            json.dumps({"format": FORMAT.kind, "version": FORMAT.version, "shards": entries})
        )
    return folder / MANIFEST
