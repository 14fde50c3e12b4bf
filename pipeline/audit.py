"""Check that a results folder is complete: nothing lost, stale, foreign or left over.

Each check goes over one kind of file and yields what is wrong. Without `full`, bulk data of shards
and the text chunks of all but a few masks are not read, so that an audit takes seconds.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.datasets import DATASETS
from data.errors import EigenshapeError, RunError, message
from data.files import sha256
from data.png import mask_origin
from data.progress import progress
from data.sealed import read_json, read_table
from eigen.store import shards
from pipeline import contents, discovery_audit, manifest, requests
from pipeline.layout import Layout, shard_name
from pipeline.mask_files import COLUMNS, LAST_RUN, mask_paths
from pipeline.records import Record, image_state, read_all
from pipeline.requests import Request
from pipeline.stages.index import read_quarantine

SAMPLED_MASKS = 1000


@dataclass
class Finding:
    """Outcome of one check: how many things it looked at, and what is wrong."""

    check: str
    count: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class Tree:
    """What a results folder says of itself."""

    folder: Path
    layout: Layout
    name: str
    entries: list[manifest.Entry]
    records: dict[int, Record]
    requests: dict[int, Request]

    @property
    def numbers(self) -> list[int]:
        """Numbers of the shards that there should be."""
        return manifest.shards(self.entries)

    def shard(self, number: int) -> Path:
        return Path(self.layout.shard(self.name, "eigenvectors", number))


def audit(
    folder: str | Path, *, full: bool = False, masks: Path | None = None, further: bool = True
) -> list[Finding]:
    """Check the results of a data set, such as `results/pascal`.

    Parameters
    ----------
    full : bool
        Read every byte of every shard, image and label map and the origin of every mask.
    masks : Path, optional
        Folder of the masks, if it is no longer where they were written.
    further : bool
        Check what was made on top of eigenvectors too: objects, segments, clusters, names, pages.

    Returns
    -------
    list of Finding
        One per check, in order.
    """
    folder = Path(folder)
    if folder.name in ("", ".."):  # its name is that of the data set
        folder = folder.resolve()
    layout = Layout("", str(folder.parent), 0)
    tree = Tree(folder, layout, folder.name, [], {}, {})
    checks: list[Callable[[Tree, Finding], Iterator[str]]] = [_manifest, _shard_records]
    checks += [_full_images if full else _images, _ids, _full_shards if full else _shards]
    checks += [_index, _settings]
    findings = []
    for check in checks:
        findings.append(_run(check, tree))
    mask_folder = masks or _mask_folder(tree)
    if mask_folder is not None:
        step = 1 if full else SAMPLED_MASKS
        findings.append(_run(lambda t, f: _masks(t, f, mask_folder, step), tree, "masks"))
    if further:
        for stage in _FURTHER:
            if any(path.exists() for path in layout.results(stage, tree.name)):
                check = functools.partial(_further, stage=stage)
                findings.append(_run(check, tree, stage))
    findings.append(_run(_leftovers, tree))
    return findings


def _run(check: Callable[[Tree, Finding], Iterator[str]], tree: Tree, name: str = "") -> Finding:
    finding = Finding(name or check.__name__.strip("_").replace("_", " "))
    try:
        finding.problems.extend(check(tree, finding))
    except (EigenshapeError, OSError) as error:
        finding.problems.append(message(error))
    return finding


def _manifest(tree: Tree, finding: Finding) -> Iterator[str]:
    """The list of images is there and intact."""
    tree.entries = manifest.read(tree.layout.manifest(tree.name))
    finding.count = len(tree.entries)
    for id, count in Counter(entry.id for entry in tree.entries).items():
        if count > 1:
            yield f"manifest.csv: {id} is listed {count} times"


def _shard_records(tree: Tree, finding: Finding) -> Iterator[str]:
    """Each shard has a record that is about this file and answers the present request."""
    for number in tree.numbers:
        finding.count += 1
        path = tree.layout.record(tree.name, "eigenvectors", number)
        try:
            (record,) = read_all([path])
            request = requests.read(tree.layout.request(tree.name, "shard", number))
        except (EigenshapeError, OSError) as error:
            yield message(error)
            continue
        tree.records[number], tree.requests[number] = record, request
        if record.request != request.digest:
            yield f"{tree.shard(number)}: made for other settings or images than those requested"
        if record.result != shards.seal_of(tree.shard(number)):
            yield f"{tree.shard(number)}: not the file that {path} is about"


def _images(tree: Tree, finding: Finding) -> Iterator[str]:
    """The images are as they were when they were read, wherever they are now."""
    times = ("size",) if _is_generated(tree.name) else ("size", "mtime_ns")
    for id, image, path in _images_read(tree):
        finding.count += 1
        now = image_state(path)
        if any(now[key] != image[key] for key in times):
            change = "is gone" if now["size"] is None else "changed"
            yield f"{id}: {path} {change} since its eigenvectors were computed"


def _images_read(tree: Tree) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Id, entry of the record, and present path of each image of the shards."""
    paths = {entry.id: entry.path for entry in tree.entries}
    below = f"/{tree.name}/photos/"
    for record in tree.records.values():
        for id, image in record.images.items():
            path = paths.get(id) or image["path"]
            if _is_generated(tree.name) and below in path:  # moved with the results
                path = str(tree.folder / "photos" / path.rpartition(below)[2])
            yield id, image, path


def _is_generated(name: str) -> bool:
    return name in DATASETS and DATASETS[name].generator is not None


def _full_images(tree: Tree, finding: Finding) -> Iterator[str]:
    """As `_images`, and their contents."""
    yield from _images(tree, finding)
    for id, image, path in _images_read(tree):
        if image["sha256"] and Path(path).is_file() and sha256(path) != image["sha256"]:
            yield f"{id}: {path} has other content than when its eigenvectors were computed"


def _ids(tree: Tree, finding: Finding) -> Iterator[str]:
    """Images in = images out + quarantine."""
    expected = Counter(entry.id for entry in tree.entries)
    aside = read_quarantine(Path(tree.layout.quarantine(tree.name)))
    done = [id for number in tree.numbers for id in shards.Shard(tree.shard(number)).ids()]
    finding.count = len(done) + len(aside)
    reached = Counter([*done, *(row.id for row in aside)])
    for id in sorted(expected - reached):
        yield f"{id}: neither in a shard nor in quarantine"
    for id in sorted(reached - expected):
        yield f"{id}: in a shard or in quarantine, but not expected (again)"


def _shards(tree: Tree, finding: Finding) -> Iterator[str]:
    """Each shard holds the images dealt to it; all its bytes but the vectors are intact."""
    dealt: dict[int, list[str]] = {}
    for entry in tree.entries:
        if entry.shard is not None:
            dealt.setdefault(entry.shard, []).append(entry.id)
    for number in tree.numbers:
        finding.count += 1
        shard = shards.Shard(tree.shard(number))
        aside = tree.records[number].quarantine if number in tree.records else {}
        if shard.ids() != [id for id in dealt[number] if id not in aside]:
            yield f"{shard.path}: holds other images than the manifest deals to it"
        shard.close()


def _full_shards(tree: Tree, finding: Finding) -> Iterator[str]:
    """As `_shards`, and every byte against the index."""
    yield from _shards(tree, finding)
    index = read_json(tree.layout.index(tree.name), RunError)["shards"]
    for name, entry in progress(index.items(), len(index), "checksums", unit="shard"):
        if sha256(tree.folder / "eigenvectors" / name) != entry["sha256"]:
            yield f"{name}: its SHA-256 is not the one in {tree.layout.index(tree.name)}"


def _index(tree: Tree, finding: Finding) -> Iterator[str]:
    """The index lists exactly the shards."""
    with shards.open(tree.folder / "eigenvectors") as opened:
        names = {shard.path.name for shard in opened.shards}
        finding.count = len(names)
    expected = {tree.shard(number).name for number in tree.numbers}
    for name in sorted(names ^ expected):
        yield f"{name}: {'not in the index' if name in expected else 'no image is dealt to it'}"


def _settings(tree: Tree, finding: Finding) -> Iterator[str]:
    """All shards were made with the same settings and weights."""
    kinds: dict[str, list[int]] = {}
    for number in tree.numbers:
        about = shards.Shard(tree.shard(number)).attributes()
        settings = {key: value for key, value in about["config"].items() if key != "weights"}
        kind = repr((settings, str(about["extractor"]), str(about["weights_sha256"])))
        kinds.setdefault(kind, []).append(number)
        finding.count += 1
    if len(kinds) > 1:
        few = min(kinds.values(), key=len)
        yield f"{len(kinds)} different settings or weights, e.g. of shard {shard_name(few[0])}"


def _mask_folder(tree: Tree) -> Path | None:
    """Where the masks were written; None where none were."""
    for number in tree.numbers:
        try:
            answer = read_json(tree.layout.record(tree.name, "masks", number), RunError)
        except (EigenshapeError, OSError):
            continue
        return (tree.folder if answer["inside"] else Path()) / answer["folder"]
    return None


def _masks(tree: Tree, finding: Finding, folder: Path, sampled: int) -> Iterator[str]:
    """Every image of a shard has its masks, and they are of this shard, image and run."""
    expected: dict[str, tuple[Any, ...]] = {}
    for number in tree.numbers:
        shard = shards.Shard(tree.shard(number))
        rows = read_table(tree.layout.mask_list(tree.name, number), COLUMNS, RunError)
        listed = {row["id"]: row["run"] for row in rows}
        table = shard.table()  # without columns where all its images are in quarantine
        for id, hash in zip(shard.ids(), table.get("sha256", ()), strict=True):
            for vector, path in enumerate(mask_paths(folder, id, table["eigenvalues"].shape[1])):
                expected[path.name] = (listed.get(id), shard.path.name, str(hash), vector)
    present = {path.name for path in folder.iterdir()}
    finding.count = len(expected)
    for name in sorted(expected.keys() - present):
        yield f"{folder / name}: missing"
    for name in sorted(present - expected.keys() - {LAST_RUN}):
        yield f"{folder / name}: of no image in the shards"
    names = sorted(expected.keys() & present)
    for name in names[:: max(1, len(names) // sampled) if sampled > 1 else 1]:
        origin = mask_origin(folder / name) or {}
        if tuple(origin.get(k) for k in ("run", "shard", "image", "vector")) != expected[name]:
            yield f"{folder / name}: not made from this shard, or by another program"


_FURTHER = ("objects", "segments", "clusters", "names", "words", "discovery")


def _further(tree: Tree, finding: Finding, *, stage: str) -> Iterator[str]:
    """What a stage on top of eigenvectors made is of the present eigenvectors and settings."""
    finding.count = 1
    layout, name = tree.layout, tree.name
    if (found := discovery_audit.checks(layout, name).get(stage)) is not None:
        yield from discovery_audit.run_check(found[1], layout, name, found[0])
    record, request = (Path(f(name, stage)) for f in (layout.record, layout.request))
    if not record.exists():
        return  # a command that was stopped, or names of the user's own masks
    about, again = read_json(record, RunError), f"run the stage `{stage}` again"
    if found is None and about.get("inputs") != contents.digest(layout.inputs(stage, name)):
        yield f"{stage}: made from other files than the present ones; {again}"
    if request.exists() and requests.read(request).digest != about.get("request"):
        yield f"{stage}: made with other settings than those requested last; {again}"


_KNOWN = {
    "eigenvectors": r"shard-(\d{5})\.h5|manifest\.json",
    "records": r"(?:eigenvectors|masks)-(\d{5})\.json|[a-z]+\.json",
    "requests": r"(?:shard|masks)-(\d{5})\.json|[a-z]+\.json",
    "masks": r"shard-(\d{5})\.csv|\.runs|.*_k\d+",
    "segments": r"(?:features\.h5|[^.].*\.png)",
    "clusters": r"(?:clusters\.(?:json|html)|centres\.npz|pictures|[^.].*\.png)",
    "names": r"(?:names(?:\.images)?\.json|scores\.json|[^.].*\.png)",
    "logs": r"[a-z]+-(\d{5})\.(?:log|jsonl)|[a-z]+\.(?:log|jsonl)",
}


def _leftovers(tree: Tree, finding: Finding) -> Iterator[str]:
    """No temporary of a killed run, no file of a shard that is not, nothing unknown."""
    numbers = set(tree.numbers)
    for name in ("", "segments", "clusters", "names"):
        for path in sorted((tree.folder / name).glob(".tmp-*")):
            yield f"{path}: of a killed run; delete it"
    for name, pattern in _KNOWN.items():
        folder = tree.folder / name
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            finding.count += 1
            match = re.fullmatch(pattern, path.name)
            if match is None:
                yield f"{path}: not a file of this software, or a killed run's"
            elif match.re.groups and match[1] is not None and int(match[1]) not in numbers:
                yield f"{path}: of a shard that does not exist"
