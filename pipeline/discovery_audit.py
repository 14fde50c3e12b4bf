"""Check the results that use eigenvectors: each file was made from the present inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from data.errors import RunError
from data.files import sha256
from pipeline.layout import Layout
from pipeline.origins import index_digest, maps_digest, read_about
from pipeline.stages.segments import SegmentReader

Check = Callable[[Layout, str, Path], Iterator[str]]


def checks(layout: Layout, name: str) -> dict[str, tuple[Path, Check]]:
    """File and check of each stage whose file is there."""
    files = {stage: Path(getattr(layout, stage)(name)) for stage in _CHECKS}
    return {stage: (path, _CHECKS[stage]) for stage, path in files.items() if path.is_file()}


def _objects(layout: Layout, name: str, path: Path) -> Iterator[str]:
    """Objects are those that their list of images is about, and of the present eigenvectors."""
    about = path.with_suffix(".images.json")
    info = read_about(about)
    if info.get("results") != sha256(path):
        yield f"{path}: not the file that {about.name} is about; run the stage `objects` again"
    yield from _of_index(layout, name, path, info.get("eigenvectors"), "objects")


def _segments(layout: Layout, name: str, path: Path) -> Iterator[str]:
    """Features are of the present eigenvectors, and label maps those of the features."""
    reader = SegmentReader(path)
    yield from _of_index(layout, name, path, reader.attributes()["eigenvectors"], "segments")
    for id in reader.ids:
        label_map = path.parent / f"{id}.png"
        if not label_map.is_file() or sha256(label_map) != reader.digest(id):
            problem = "changed" if label_map.is_file() else "missing"
            yield f"{label_map}: {problem}; run the stage `segments` again"
    yield from _strangers(path.parent, reader.ids)


def _clusters(layout: Layout, name: str, path: Path) -> Iterator[str]:
    """Clusters are of the present segments, and pseudo-labels those of the clusters."""
    info, reader = read_about(path), SegmentReader(Path(layout.segments(name)))
    if info.get("segments") != reader.seal:
        yield f"{path}: of other segments than {reader.path}; run the stage `clusters` again"
    yield from _maps(path, reader.ids, info.get("maps"), "clusters")


def _names(layout: Layout, name: str, path: Path) -> Iterator[str]:
    """Names are those that their list of images is about, and of the present segments."""
    about = path.with_suffix(".images.json")
    info = read_about(about)
    if info.get("results") != sha256(path):
        yield f"{path}: not the file that {about.name} is about; run the stage `names` again"
    named = info.get("masks", {}).get("segments")
    segments = Path(layout.segments(name))
    if named is not None and (not segments.is_file() or SegmentReader(segments).seal != named):
        yield f"{path}: of other segments than {segments}; run the stage `names` again"
    ids = sorted(label_map.stem for label_map in path.parent.glob("[!.]*.png"))
    yield from _maps(path, ids, info.get("maps"), "names")


_CHECKS: dict[str, Check] = {
    "objects": _objects,
    "segments": _segments,
    "clusters": _clusters,
    "names": _names,
}


def _of_index(
    layout: Layout, name: str, path: Path, made_from: object, stage: str
) -> Iterator[str]:
    index = Path(layout.index(name)).parent
    if made_from != index_digest(index):
        yield f"{path}: of other eigenvectors than {index}; run the stage `{stage}` again"


def _maps(path: Path, ids: list[str], expected: object, stage: str) -> Iterator[str]:
    try:
        found = maps_digest(path.parent, ids)
    except FileNotFoundError as error:
        yield f"{error.filename}: missing; run the stage `{stage}` again"
        return
    if found != expected:
        yield f"{path.parent}: label maps changed, or of another run; run `{stage}` again"
    yield from _strangers(path.parent, ids)


def _strangers(folder: Path, ids: list[str]) -> Iterator[str]:
    for stray in sorted({path.stem for path in folder.glob("[!.]*.png")} - set(ids)):
        yield f"{folder / f'{stray}.png'}: of no image in this run"


def run_check(check: Check, layout: Layout, name: str, path: Path) -> Iterator[str]:
    """The problems of one check."""
    try:
        yield from check(layout, name, path)
    except (KeyError, AttributeError, TypeError) as error:
        raise RunError(f"{path}: what it was made from cannot be read ({error!r})") from error
