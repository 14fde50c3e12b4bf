"""Files of masks: their names and origin, and which are missing or left over.

The masks of a data set may lie in a folder that others use too. A mask is this folder's if the
digest of its run (`data.png.mask_origin`) is among those that the results folder records, in the
folder `.runs` next to the lists of written masks.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from data.errors import RunError
from data.png import mask_origin
from data.sealed import read_table

log = logging.getLogger(__name__)

COLUMNS = ("id", "image", "run")
"""Of the list of written masks: image, SHA-256 of its file, digest of the run."""

LAST_RUN = ".eigenshape-run"
"""File in a folder of masks with the digest of the run that last wrote there."""

_NAME = re.compile(r"([^.].*)_k(\d+)\.png")


def mask_names(id: str, k: int) -> list[str]:
    """Names of an image's masks, as published."""
    return [f"{id}_k{number}.png" for number in range(k)]


def mask_paths(folder: Path, id: str, k: int) -> list[Path]:
    """Paths of an image's masks."""
    return [folder / name for name in mask_names(id, k)]


def own_runs(lists: Path) -> set[str]:
    """Digests of the settings with which masks were written from this results folder."""
    folder = lists / ".runs"
    return {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()


def remember_run(lists: Path, digest: str) -> None:
    """Add a digest to `own_runs`."""
    (lists / ".runs").mkdir(parents=True, exist_ok=True)
    (lists / ".runs" / digest).touch()


def refuse_others(folder: Path, ids: Iterable[str], k: int, own: Collection[str]) -> None:
    """Raise `RunError` if masks of these images were not written from this results folder."""
    others = [
        path for id in ids for path in mask_paths(folder, id, k) if not _is_ours(path, own, True)
    ]
    if others:
        raise RunError(
            f"{folder}: {len(others)} masks of these images were not written by this run (first: "
            f"{others[0].name}, {_writer(others[0])}); move them away, choose another "
            "datasets_root, or set overwrite_masks=true"
        )


def _is_ours(path: Path, own: Collection[str], if_missing: bool) -> bool:
    try:
        origin = mask_origin(path)
    except FileNotFoundError:
        return if_missing
    return origin is not None and origin.get("run") in own


def _writer(path: Path) -> str:
    origin = mask_origin(path)
    return "by another program" if origin is None else f"by the run {origin.get('run')}"


def remove(folder: Path, ids: Iterable[str], k: int, own: Collection[str]) -> None:
    """Remove the masks of some images, those that this results folder wrote."""
    for id in ids:
        for path in mask_paths(folder, id, k):
            if _is_ours(path, own, False):
                path.unlink(missing_ok=True)


def remove_gone(folder: Path, lists: Path, ids: Collection[str]) -> None:
    """Remove masks of images that are not in `ids`; those of other origin are kept and reported."""
    if not folder.is_dir():
        return
    own, foreign = own_runs(lists), []
    for entry in os.scandir(folder):
        match = _NAME.fullmatch(entry.name)
        if match is None or match[1] in ids:
            continue
        path = Path(entry.path)
        if _is_ours(path, own, True):
            path.unlink(missing_ok=True)
        else:
            foreign.append(entry.name)
    if foreign:
        log.warning(
            "%s: kept %d masks that belong to no image of this run (first: %s)",
            folder,
            len(foreign),
            min(foreign),
        )


def is_complete(folder: Path, written: Path, present: Collection[str], k: int) -> bool:
    """Whether all masks of a list exist, and no other run has written to the folder since.

    Parameters
    ----------
    written : Path
        The list of written masks.
    present : collection of str
        Names of the files in `folder`.

    Raises
    ------
    RunError
        The list is damaged.
    """
    listed = read_table(written, COLUMNS, RunError)
    last = (folder / LAST_RUN).read_text() if LAST_RUN in present else ""
    return all(
        row["run"] == last and all(name in present for name in mask_names(row["id"], k))
        for row in listed
    )
