"""The published PASCAL-5i and COCO-20i list files: read them, and compare lists with them.

Only the counts and hashes of the published lists are kept here (`published_lists.json`): images and
pairs per role, and the SHA-256 of the sorted entries, per fold for PASCAL, per class for COCO.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
import pickle
import re
from pathlib import Path
from typing import Any

from data.errors import DatasetError, reason
from data.sazs.benchmark import FOLDS, ROLES, Benchmark
from data.sazs.splits import Lists
from data.trees.coco import COCO_20I
from data.trees.findings import Finding
from data.trees.lists import read_lines
from data.trees.voc import PASCAL_5I


@functools.cache
def published() -> dict[str, Any]:
    """Counts and hashes of the published lists: benchmark -> role -> images, pairs, sha256."""
    file = importlib.resources.files("data.sazs") / "published_lists.json"
    return json.loads(file.read_text("utf-8"))


def read_lists(benchmark: Benchmark, folder: str | Path) -> Lists:
    """Read the published files: `{trn,val}/fold{0..3}.txt` for PASCAL, `.pkl` for COCO.

    The folder `train` is read if there is no `trn`.

    Raises
    ------
    DatasetError
        A file is missing or malformed, or one pickle contradicts another; names the file.
    """
    folder = Path(folder)
    readers = {PASCAL_5I: _read_pascal, COCO_20I: _read_coco}
    if benchmark not in readers:
        raise DatasetError(
            f"{folder}: no lists were published for {benchmark.name!r}; give a file written by "
            "`python -m pipeline lists`"
        )
    read = readers[benchmark]
    images: dict[str, dict[int, list[str]]] = {}
    for role in ROLES:
        place = folder / role
        if role == "trn" and not place.is_dir():
            place = folder / "train"
        images[role] = {c: [] for c in range(benchmark.classes)}
        for fold in range(FOLDS):
            read(place, role, fold, images[role])
    return Lists(benchmark, images)


def _read_pascal(place: Path, role: str, fold: int, images: dict[int, list[str]]) -> None:
    """A line is `{photo}__{class id + 1 in two digits}`; both roles list the fold's own classes."""
    path = place / f"fold{fold}.txt"
    allowed = PASCAL_5I.class_ids(fold, "val")
    lines = read_lines(path)
    for number, line in enumerate(lines, start=1):
        match = re.fullmatch(r"(.+)__(\d\d)", line)
        class_id = int(match[2]) - 1 if match else -1
        if match is None or class_id not in allowed:
            raise DatasetError(
                f"{path}, line {number}: expected {{photo}}__{{{allowed[0] + 1:02d} to "
                f"{allowed[-1] + 1:02d}}}, found {line!r}"
            )
        images[class_id].append(match[1])


def _read_coco(place: Path, role: str, fold: int, images: dict[int, list[str]]) -> None:
    """A pickle maps class id to a list of images; a class has the same list in every fold."""
    path = place / f"fold{fold}.pkl"
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file).load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DatasetError(f"cannot read the list {path}: {reason(error)}") from error
    for class_id in COCO_20I.class_ids(fold, role):
        listed = content.get(class_id) if isinstance(content, dict) else None
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise DatasetError(f"{path}: expected a list of images for class {class_id}")
        if images[class_id] and images[class_id] != listed:
            raise DatasetError(f"{path}: class {class_id} has another list than in another fold")
        images[class_id] = listed


class _PlainUnpickler(pickle.Unpickler):
    """Load dicts, lists, strings and numbers, and refuse whatever would run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it would run {module}.{name}, which a list does not need")


def compare(lists: Lists) -> list[Finding]:
    """Compare lists with the published counts and hashes, one finding per role.

    Lists of the full set must be equal. For a subset of the images, all that can be checked is that
    no class has more pairs than published.
    """
    if lists.benchmark.name not in published():
        what = f"lists of {lists.benchmark.name}; none were published to compare them with"
        return [Finding("ok", what, Path(lists.benchmark.name))]
    benchmark = lists.benchmark
    findings = []
    for role in ROLES:
        expected = published()[benchmark.name][role]
        counts = [len(lists.images[role][c]) for c in range(benchmark.classes)]
        what = f"{benchmark.name} {role}, {sum(counts)} pairs of {sum(expected['pairs'])} published"
        where = Path(benchmark.name) / role
        photos = lists.photos[role]
        if 0 < photos < expected["photos"]:
            excess = _differing(counts, expected["pairs"], only_more=True)
            scope = f"{what}, from {photos} of {expected['photos']} images"
            if excess:
                findings.append(Finding("warning", f"{scope}; too many: {excess}", where))
            else:
                findings.append(Finding("ok", f"{scope}; no class has too many", where))
        elif counts != expected["pairs"]:
            differing = _differing(counts, expected["pairs"], only_more=False)
            findings.append(Finding("warning", f"{what}; differing: {differing}", where))
        elif _hashes(lists, role) != expected["sha256"]:
            findings.append(Finding("warning", f"{what}; equal counts, other images", where))
        else:
            findings.append(Finding("ok", f"{what}; the same pairs", where))
    return findings


def _differing(counts: list[int], expected: list[int], *, only_more: bool) -> str:
    return ", ".join(
        f"class {c} has {found} instead of {wanted}"
        for c, (found, wanted) in enumerate(zip(counts, expected, strict=True))
        if (found > wanted if only_more else found != wanted)
    )


def _hashes(lists: Lists, role: str) -> list[str]:
    images, benchmark = lists.images[role], lists.benchmark
    if benchmark.interleaved:
        groups = [images[c] for c in range(benchmark.classes)]
    else:
        groups = [
            [
                f"{image}__{c + 1:02d}"
                for c in benchmark.class_ids(fold, "val")
                for image in images[c]
            ]
            for fold in range(FOLDS)
        ]
    return [hashlib.sha256("\n".join(sorted(group)).encode()).hexdigest() for group in groups]
