"""The steps from an image to its eigenpairs, as tasks for `pipeline.workers.run_ordered`.

A task holds only the configuration, so it is cheap to send to a worker; each process builds the
extractor once.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from data.errors import ImageError, ShardError
from data.files import expanded
from data.pictures import read_image_stamped
from eigen.extractors import Extractor, make
from eigen.extractors.spec import ExtractorSpec
from eigen.graphs import build as graphs
from eigen.graphs.affinity import Affinity, TriangleAffinity
from eigen.pairs import Cells, Eigenpairs
from eigen.picture import Features, features_of, from_graph, graph_of
from eigen.store import packed
from pipeline.config import Config
from pipeline.manifest import Entry
from pipeline.opened import state
from pipeline.outcome import quarantined

FEATURES = packed.Format("eigenshape-features", version=2, ragged={"features": "offset"})
LAPLACIANS = packed.Format(
    "eigenshape-laplacians",
    version=2,
    ragged={"data": "data_offset", "indices": "indices_offset", "indptr": "indptr_offset"},
)


def extractor_for(config: Config) -> Extractor:
    """The configured extractor; one per process, made again when its file of weights changes."""
    weights = config.extractor.weights
    key = state(expanded(weights)) if weights else None
    return _extractor(config.extractor, config.machine.device, key)


@functools.lru_cache(maxsize=2)
def _extractor(spec: ExtractorSpec, device: str, key: object) -> Extractor:
    return make(spec, device)


@dataclass(frozen=True)
class Solved:
    """Eigenpairs of an image, and the SHA-256 of the image file's bytes."""

    pairs: Eigenpairs
    sha256: str


@dataclass(frozen=True)
class Fused:
    """Image -> eigenpairs, nothing written in between."""

    config: Config

    @quarantined
    def __call__(self, entry: Entry) -> Solved:
        image, stamp = read_image_stamped(entry.path)
        config = self.config
        graph = graph_of(image, extractor_for(config), config.graph, config.max_patches)
        pairs = from_graph(graph, (image.shape[0], image.shape[1]), config.solve)
        return Solved(pairs, stamp.sha256)


@dataclass(frozen=True)
class ImageFeatures:
    """Features of an image, and the SHA-256 of its file."""

    features: Features
    sha256: str


@dataclass(frozen=True)
class ExtractFeatures:
    """Image -> features."""

    config: Config

    @quarantined
    def __call__(self, entry: Entry) -> ImageFeatures:
        image, stamp = read_image_stamped(entry.path)
        features = features_of(image, extractor_for(self.config), self.config.max_patches)
        return ImageFeatures(features, stamp.sha256)


@dataclass(frozen=True)
class Row:
    """An image's row in a packed file, and the path of the image."""

    id: str
    index: int
    path: str


@dataclass(frozen=True)
class ImageGraph:
    """Affinity of an image, its size, and the SHA-256 of its file."""

    graph: graphs.Graph
    size: tuple[int, int]
    sha256: str


@dataclass(frozen=True)
class BuildGraph:
    """Features in a file -> affinity. The image is read again for its colours."""

    config: Config
    features: Path

    @quarantined
    def __call__(self, row: Row) -> ImageGraph:
        reader = _reader(self.features, FEATURES)
        start, stop = reader.column("offset")[row.index : row.index + 2]
        grid, size = _grid_and_size(reader, row.index)
        features = reader.rows("features", start, stop)
        cells = _cells(reader, row.index)
        image, stamp = read_image_stamped(row.path)
        if stamp.sha256 != (expected := str(reader.column("sha256")[row.index])):
            raise ImageError(row.path, "changed between two stages of one run; run it again")
        graph = graphs.build(self.config.graph, features, grid, image, cells)
        return ImageGraph(graph, size, expected)


@dataclass(frozen=True)
class SolveGraph:
    """Affinity in a file -> eigenpairs."""

    config: Config
    laplacians: Path

    @quarantined
    def __call__(self, row: Row) -> Solved:
        reader = _reader(self.laplacians, LAPLACIANS)
        grid, size = _grid_and_size(reader, row.index)
        graph = graphs.Graph(
            _affinity(reader, row.index, grid[0] * grid[1]), grid, _cells(reader, row.index)
        )
        pairs = from_graph(graph, size, self.config.solve)
        return Solved(pairs, str(reader.column("sha256")[row.index]))


def _reader(path: Path, format: packed.Format) -> packed.PackedReader:
    """The reader of a file, shared by the images of a job."""
    return _opened(path, format, state(path))


@functools.lru_cache(maxsize=4)
def _opened(path: Path, format: packed.Format, key: object) -> packed.PackedReader:
    return packed.PackedReader(path, format)


def _grid_and_size(
    reader: packed.PackedReader, index: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    (h, w), (H, W) = (reader.column(name)[index].tolist() for name in ("grid", "size"))
    return (h, w), (H, W)


def _cells(reader: packed.PackedReader, index: int) -> Cells:
    return Cells(*reader.column("cells")[index].tolist())


def affinity_arrays(W: Affinity) -> tuple[str, dict[str, np.ndarray]]:
    """Form of an affinity ("csr", "dense" or "triangle") and its ragged arrays."""
    if isinstance(W, sp.csr_array):
        return "csr", {"data": W.data, "indices": W.indices, "indptr": W.indptr}
    none = np.zeros(0, np.int32)
    if isinstance(W, TriangleAffinity):
        return "triangle", {"data": W.array.reshape(-1), "indices": none, "indptr": none}
    if isinstance(W, np.ndarray):
        return "dense", {"data": W.reshape(-1), "indices": none, "indptr": none}
    raise ShardError("path: a graph of this many nodes is never stored; set path=fused")


def _affinity(reader: packed.PackedReader, index: int, n: int) -> Affinity:
    arrays = {}
    for name, offset in LAPLACIANS.ragged.items():
        start, stop = reader.column(offset)[index : index + 2]
        arrays[name] = reader.rows(name, start, stop)
    form = reader.column("form")[index]
    if form == "csr":
        return sp.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=(n, n))
    dense = arrays["data"].reshape(n, n)
    return TriangleAffinity(dense) if form == "triangle" else dense
