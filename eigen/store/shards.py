"""Eigenvector shards: the files everything above `eigen` reads.

A shard is one packed HDF5 file (`eigen.store.packed`) of a few hundred images, version 2.

| dataset | shape, type | meaning |
|---|---|---|
| `id` | (n,) string | image |
| `sha256` | (n,) string | of the bytes of the image file, "" where they came from no file |
| `size` | (n, 2) int32 | H, W in pixels |
| `grid` | (n, 2) int32 | h, w nodes |
| `cells` | (n, 4) float64 | height, width, top, left of `eigen.pairs.Cells` |
| `offset` | (n + 1,) int64 | rows of image i are `vectors[offset[i]:offset[i + 1]]` |
| `eigenvalues` | (n, K) float64 | ascending |
| `residual` | (n, K) float32 | see `eigen.pairs.Eigenpairs` |
| `solver` | (n,) string | |
| `vectors` | (sum of h*w, K) float32 | nodes row-major |

Root attributes: `format`, `version`, `software`, `config` (JSON), `extractor`, `weights_sha256`,
`count`. A folder of shards has a `manifest.json` with the seal, the SHA-256 and the ids of each.
Shards and folders of version 1 are read as well (`eigen.store.version1`): their cells are inferred
from the sizes (`Cells.inferred`), their content hashes are "".
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.arguments import check_type
from data.errors import ShardError
from data.files import is_file_name, sha256
from data.sealed import read_json, write_json
from eigen.pairs import Cells, Eigenpairs
from eigen.store import packed
from eigen.store.sealed import AGAIN, seal_of
from eigen.store.version1 import Version1Reader, is_version1

__all__ = ["Shard", "ShardError", "ShardFolder", "create", "open", "write_manifest"]

FORMAT = packed.Format("eigenshape-eigenvectors", version=2, ragged={"vectors": "offset"})
MANIFEST = "manifest.json"
_COLUMNS = ("id", "size", "grid", "offset", "eigenvalues", "residual", "solver")
_SINCE_VERSION_2 = ("sha256", "cells")


@contextlib.contextmanager
def create(
    path: str | Path,
    *,
    config: Mapping[str, Any],
    software: str,
    extractor: str,
    weights_sha256: str,
) -> Iterator[Callable[..., None]]:
    """Write a shard: yields `append(id, pairs, sha256="")`.

    The file appears, whole, when the block ends. A `manifest.json` in its folder is removed first:
    it describes the previous shard.

    Parameters
    ----------
    config : mapping
        The resolved configuration, stored as JSON.
    software, extractor, weights_sha256 : str
        Version of the software, name of the extractor, hash of its weights ("" if it has none).

    Raises
    ------
    ShardError
        An id with path parts, or pairs of another K than the first.
    OSError
        As `eigen.store.packed.create`.
    """
    attributes = {
        "software": software,
        "config": json.dumps(config, sort_keys=True),
        "extractor": extractor,
        "weights_sha256": weights_sha256,
    }
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        Path(path).with_name(MANIFEST).unlink()
    with packed.create(path, FORMAT, attributes) as writer:

        def append(id: str, pairs: Eigenpairs, sha256: str = "") -> None:
            _check_name(path, "id", id)
            h, w = pairs.grid
            writer.append(
                {"vectors": np.asarray(pairs.vectors, np.float32).reshape(pairs.k, h * w).T},
                id=id,
                sha256=sha256,
                size=np.asarray(pairs.size, np.int32),
                grid=np.asarray((h, w), np.int32),
                cells=np.asarray(astuple(pairs.cells), np.float64),
                eigenvalues=np.asarray(pairs.eigenvalues, np.float64),
                residual=np.asarray(pairs.residual, np.float32),
                solver=pairs.solver,
            )

        yield append


def _check_name(path: str | Path, what: str, name: object) -> None:
    if not isinstance(name, str) or not is_file_name(name):
        raise ShardError(
            f"{path}: expected a name without path parts as {what}, found {name!r}; the file is "
            "damaged, or the image needs another name"
        )


@dataclass(frozen=True)
class _Expected:
    """Entry of a shard in its folder's manifest; `seal` is "" for one of version 1."""

    seal: str
    sha256: str
    ids: tuple[str, ...]


class Shard:
    """One shard, read image by image. Opened when first used.

    Raises
    ------
    ShardError
        Missing, damaged, of another format or version, or not the file that the folder's manifest
        lists.
    OSError
        The operating system refuses to open the file (permissions, too many open files).
    """

    def __init__(self, path: str | Path, expected: _Expected | None = None):
        self._path = Path(path)
        self._expected = expected
        self._reader: packed.PackedReader | Version1Reader | None = None
        self._table: dict[str, np.ndarray] | None = None

    def __repr__(self) -> str:
        return f"Shard({str(self._path)!r})"

    @property
    def path(self) -> Path:
        """File of the shard."""
        return self._path

    def _open(self) -> packed.PackedReader | Version1Reader:
        if self._reader is None:
            if is_version1(self._path):
                digest = self._expected.sha256 if self._expected else None
                self._reader = Version1Reader(self._path, FORMAT.kind, digest)
            else:
                self._reader = packed.PackedReader(self._path, FORMAT)
        return self._reader

    def attributes(self) -> dict[str, Any]:
        """Root attributes, `config` decoded."""
        attributes = self._open().attributes()
        try:
            return {**attributes, "config": json.loads(attributes["config"])}
        except (KeyError, ValueError) as error:
            raise ShardError(
                f"{self.path}: expected a configuration in the attributes ({error}); {AGAIN}"
            ) from error

    def table(self) -> dict[str, np.ndarray]:
        """All columns, read once; empty for a shard without images."""
        if self._table is None:
            reader = self._open()
            table = {}
            if reader.attributes().get("count") != 0:
                table = {name: reader.column(name) for name in _COLUMNS}
                table |= self._since_version_2(reader, table)
            self._check(table)
            self._table = table
        return self._table

    def _since_version_2(
        self, reader: packed.PackedReader | Version1Reader, table: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        if isinstance(reader, packed.PackedReader):
            return {name: reader.column(name) for name in _SINCE_VERSION_2}
        places = zip(table["size"].tolist(), table["grid"].tolist(), strict=True)
        cells = [astuple(Cells.inferred((H, W), (h, w))) for (H, W), (h, w) in places]
        return {"sha256": np.full(len(cells), "", object), "cells": np.array(cells)}

    def _check(self, table: Mapping[str, np.ndarray]) -> None:
        """Refuse ids with path parts, and a manifest that lists other images."""
        ids = table["id"].tolist() if table else []
        for id in ids:
            _check_name(self.path, "id", id)
        if self._expected is not None and list(self._expected.ids) != ids:
            raise ShardError(
                f"{self.path}: its images are not those in {MANIFEST}, which is damaged or from "
                "another run; delete it and run the stage `index` again"
            )

    def ids(self) -> list[str]:
        """Ids of its images, in order."""
        return [str(id) for id in self.table().get("id", ())]

    def pairs(self, index: int) -> Eigenpairs:
        """Eigenpairs of the image in row `index`."""
        table = self.table()
        start, stop = (int(n) for n in table["offset"][index : index + 2])
        h, w = (int(n) for n in table["grid"][index])
        if stop - start != h * w:
            raise ShardError(
                f"{self.path}: {table['id'][index]}: expected {h * w} rows for a grid of {h} x "
                f"{w}, found {stop - start}; {AGAIN}"
            )
        height, width = table["size"][index].tolist()
        return Eigenpairs(
            eigenvalues=table["eigenvalues"][index].copy(),
            vectors=np.array(self._open().rows("vectors", start, stop).T, order="C").reshape(
                -1, h, w
            ),
            residual=table["residual"][index].copy(),
            solver=str(table["solver"][index]),
            size=(height, width),
            cells=Cells(*table["cells"][index].tolist()),
        )

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._reader is not None:
            self._reader.close()
        self._table = None


class ShardFolder(Mapping[str, Eigenpairs]):
    """All shards of a folder as one mapping from image id to `Eigenpairs`.

    Only the list of ids is held in memory until a shard is used, and few files are open at a time.
    Safe to pass to the workers of a DataLoader, forked or spawned.
    """

    def __init__(self, shards: Sequence[Shard], ids: Sequence[Sequence[str]]):
        self._shards = list(shards)
        self._places: dict[str, tuple[int, int]] = {}
        for number, members in enumerate(ids):
            for index, id in enumerate(members):
                if id in self._places:
                    other = self._shards[self._places[id][0]].path
                    raise ShardError(
                        f"{self._shards[number].path}: image {id!r} is also in {other}; the folder "
                        "mixes two runs: run the stage `index` again"
                    )
                self._places[id] = (number, index)

    def __repr__(self) -> str:
        folder = str(self._shards[0].path.parent) if self._shards else ""
        return f"ShardFolder({folder!r}, {len(self)} images in {len(self._shards)} shards)"

    def __getitem__(self, id: str) -> Eigenpairs:
        shard, index = self._places[id]
        self._shards[shard].table()  # compares it with the manifest before anything is returned
        return self._shards[shard].pairs(index)

    def place(self, id: str) -> tuple[Shard, int]:
        """The shard of an image and its row there."""
        shard, index = self._places[id]
        return self._shards[shard], index

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def shards(self) -> list[Shard]:
        """The shards, in the order of the manifest."""
        return self._shards

    def __enter__(self) -> ShardFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        for shard in self._shards:
            shard.close()


def open(folder: str | Path, *, verify: bool = False) -> ShardFolder:
    """Open a folder of shards.

    Each shard of version 2 is compared with `manifest.json` by its seal; the contents are checked
    as they are read.

    Parameters
    ----------
    folder : path
        Holds `*.h5`, and `manifest.json` once the run that wrote them has finished.
    verify : bool
        Compare every file with its SHA-256 in the manifest first (reads all bytes).

    Raises
    ------
    ShardError
        No shard in the folder; a damaged manifest; a shard that is missing or is not the one that
        the manifest lists.
    OSError
        The operating system refuses to read the folder.
    """
    check_type("folder", folder, (str, os.PathLike), "the path of a folder of shards")
    folder = Path(folder)
    if folder.is_file():
        raise ShardError(
            f"{folder}: expected a folder of shards, found a file; give {folder.parent}"
        )
    manifest = folder / MANIFEST
    if manifest.exists():
        entries = _read_manifest(manifest)
        for name, entry in entries.items():
            _compare(folder / name, entry, verify=verify)
        shards = [Shard(folder / name, entry) for name, entry in entries.items()]
        return ShardFolder(shards, [entry.ids for entry in entries.values()])
    paths = sorted(path for path in folder.glob("*.h5") if not path.name.startswith("."))
    if not paths:
        raise ShardError(
            f"{folder}: expected shards (*.h5), found none; compute them with `snakemake pascal_k5`"
        )
    shards = [Shard(path) for path in paths]
    return ShardFolder(shards, [shard.ids() for shard in shards])


def _compare(path: Path, entry: _Expected, *, verify: bool) -> None:
    if not path.exists():
        raise ShardError(
            f"{path}: listed in {MANIFEST} but missing; run the same command again to make it"
        )
    if entry.seal and (seal := seal_of(path)) != entry.seal:
        raise ShardError(
            f"{path}: expected the seal {entry.seal[:16]}... of {MANIFEST}, found {seal[:16]}...: "
            "the shard was written again since; run the stage `index` again"
        )
    if verify and (digest := sha256(path)) != entry.sha256:
        raise ShardError(
            f"{path}: expected the SHA-256 {entry.sha256} of {MANIFEST}, found {digest}; delete "
            "the shard and run the same command again"
        )


def _read_manifest(path: Path) -> dict[str, _Expected]:
    again = "delete it and run the stage `index` again"
    content = read_json(path, ShardError, remedy=again, unsealed=("version", 1))
    try:
        entries = {
            name: _Expected(entry.get("seal", ""), entry["sha256"], tuple(entry["ids"]))
            for name, entry in content["shards"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ShardError(f"{path}: not a shard manifest ({error}); {again}") from error
    for name, entry in entries.items():
        _check_name(path, "shard", name)
        for id in entry.ids:
            _check_name(path, "id", id)
    return entries


def write_manifest(folder: str | Path, shards: Sequence[str | Path]) -> Path:
    """Record seal, SHA-256 and ids of finished shards in `folder/manifest.json`.

    Raises
    ------
    ShardError
        A shard is damaged.
    """
    folder = Path(folder)
    entries = {
        path.name: {
            "seal": "" if is_version1(path) else seal_of(path),
            "sha256": sha256(path),
            "ids": Shard(path).ids(),
        }
        for path in map(Path, shards)
    }
    content = {"format": FORMAT.kind, "version": FORMAT.version, "shards": entries}
    write_json(folder / MANIFEST, content)
    return folder / MANIFEST
