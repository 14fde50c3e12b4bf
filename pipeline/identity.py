"""What decides the result of each job: its request, from the configuration and the images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from data.datasets import DATASETS
from data.errors import DatasetError
from data.files import expanded, sha256
from data.trees.tree import Tree
from eval.sazs.words import PACKAGED
from pipeline import contents
from pipeline.config import STAGE_KEYS, Config
from pipeline.layout import Layout
from pipeline.manifest import Entry
from pipeline.requests import Photo, Request, answer

_NO_IDENTITY = ("datasets_root", "results_root", "folder", "overwrite_masks")
"""Keys that say where files are: moving them changes no result."""


def manifest_request(dataset: str, entries: Iterable[Entry], layout: Layout) -> Request:
    """The list of images: which, where, in which shard.

    Where the pipeline makes the images, "where" is the root of their tree: they need not exist yet.
    """
    decided = DATASETS[dataset].generator is not None
    rows = [[e.id, "" if decided else e.path, e.shard, e.problem] for e in entries]
    root = {"root": str(layout.tree(dataset))} if decided else {}
    return Request("manifest", {"entries": rows, **root})


def photos_of(dataset: str, entries: Iterable[Entry]) -> tuple[Photo, ...]:
    """Images of a shard as they are now.

    Those that the pipeline generates need not exist yet: their rule is an input of the shard's.
    """
    if DATASETS[dataset].generator is None:
        return tuple(Photo.of(entry.id, entry.path) for entry in entries)
    return tuple(Photo(entry.id, "", -1, -1) for entry in entries)


def photos_recorded(dataset: str, images: Mapping[str, Mapping[str, Any]]) -> tuple[Photo, ...]:
    """Images of a shard as they were when the first of its stages began (`records.Record`)."""
    if DATASETS[dataset].generator is not None:
        return tuple(Photo(id, "", -1, -1) for id in images)
    return tuple(
        Photo(id, image["path"], image["size"], image["mtime_ns"])
        if image["size"] is not None
        else Photo(id, image["path"], -1, -1)
        for id, image in images.items()
    )


def shard_request(settings: Mapping[str, Any], photos: tuple[Photo, ...]) -> Request:
    """Eigenpairs of the images of a shard, with the settings of `IDENTITY["fused"]`."""
    return Request("shard", {**settings, "weights": _state(settings["weights"])}, photos)


def stage_request(stage: str, config: Config, truth: tuple[Photo, ...] = ()) -> Request:
    """A stage whose result follows from files that its rule names, and from settings.

    `truth` has the label maps by which it is scored, see `truth_of`.
    """
    keys = [key for key in STAGE_KEYS[stage] if key not in _NO_IDENTITY]
    settings = config.flat(*keys)
    for key in ("weights", "namer_weights"):
        if key in settings:
            settings[key] = _state(settings[key])
    if stage == "words":
        settings["network"] = sha256(PACKAGED)
    return Request(stage, settings, truth)


def truth_of(tree: Tree) -> tuple[Photo, ...]:
    """Label maps of a tree as they are now; none where it cannot be listed."""
    try:
        images = tree.photos()
    except DatasetError:
        return ()
    maps = [(image.id, path) for image in images if (path := tree.mask_path(image))]
    states = [Photo.of(id, str(path)) for id, path in maps]
    return tuple(state for state in states if state.size >= 0)


def state_of(tree: Tree) -> str | None:
    """Digest of names and sizes of a generated tree's images and label maps; None without any.

    Their times are left out: a copy of the results is no other tree.
    """
    try:
        images = [Photo.of(image.id, str(image.path)) for image in tree.photos()]
    except DatasetError:
        return None
    maps = truth_of(tree)
    sizes = {kind: [[f.id, f.size] for f in files] for kind, files in (("i", images), ("m", maps))}
    return Request("tree", sizes).digest


@contextlib.contextmanager
def answering(
    request: Request,
    layout: Layout,
    dataset: str,
    *,
    shard: str | None = None,
    shards: Iterable[str] = (),
) -> Iterator[dict[str, Any]]:
    """Record that what the block makes answers a request, from its inputs as they were before it.

    Yields a dict of what the record says besides; `shard` and `shards` are those of
    `Layout.inputs`.
    """
    stage = request.stage
    inputs = contents.digest(layout.inputs(stage, dataset, shard, shards))
    about: dict[str, Any] = {}
    yield about
    results = contents.digest(layout.results(stage, dataset, shard), layout.folder(stage, dataset))
    record = layout.record(dataset, stage, shard)
    answer(record, request, inputs=inputs, results=results, **about)


def _state(weights: str | None) -> Any:
    """A weight file by its size and time: the same wherever it lies, another once replaced."""
    if weights is None or not expanded(weights).is_file():
        return weights
    photo = Photo.of("", str(expanded(weights)))
    return [photo.size, photo.mtime_ns]
