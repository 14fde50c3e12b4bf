"""Trees: folders of images in a known layout, with ids, paths and problems.

A tree lists its folders once, at first use. Every file named like an image becomes either a `Photo`
with a unique id or a problem; other files are counted in a note.
"""

from __future__ import annotations

import functools
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from data.errors import DatasetError, SettingError
from data.files import kind_of
from data.pictures import SUFFIXES
from data.trees.findings import Finding

# Control characters, line separators, and bytes of a file name that are not UTF-8.
_NOT_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Photo:
    """An image of a tree. `split` names the list or folder it belongs to, if the tree has any."""

    id: str
    path: Path
    split: str | None = None


class Labelled(NamedTuple):
    """An image of a benchmark under its name in the lists, and where its label map belongs."""

    name: str
    image: Path
    label: Path


@dataclass
class Listing:
    """Images sorted by id; problems as (id, reason); notes on other files."""

    photos: list[Photo] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Tree(ABC):
    """A folder of images in a known layout.

    `name` is that of the layout and `root` the folder that holds its parts; both are set before
    anything is read, so that a tree can be opened and checked before any file exists.
    """

    name: str

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def _list(self) -> Listing: ...

    @abstractmethod
    def check(self) -> list[Finding]:
        """Which folders, lists and masks are present, and how to get the others."""

    @abstractmethod
    def mask_path(self, photo: Photo) -> Path | None:
        """Path of the label map of an image, which may not exist; None in a tree without any."""

    def labelled(self) -> dict[str, list[Labelled]]:
        """Images with label maps of each role of a benchmark ("trn", "val").

        What is listed, or has one of the two, is among them; its other file may be missing.

        Raises
        ------
        DatasetError
            The tree has no lists or no label maps; the message tells how to get them.
        """
        raise DatasetError(f"lists: the data set {self.name!r} has no benchmark")

    @functools.cached_property
    def _listing(self) -> Listing:
        return self._list()

    def photos(self) -> list[Photo]:
        """Every image, sorted by id.

        Raises
        ------
        DatasetError
            The folder is missing or holds no image.
        """
        return list(self._listing.photos)

    def problems(self) -> list[tuple[str, str]]:
        """Files that cannot be processed, as (id, reason); raises as `photos`."""
        return list(self._listing.problems)

    def notes(self) -> list[str]:
        """Files that were ignored because they are not images, in words. Raises as `photos`."""
        return list(self._listing.notes)


def all_images(make: Callable[[Path], Tree]) -> Callable[[Path, str], Tree]:
    """Turn `make` into a `Dataset.tree`, for layouts without lists of images."""

    def tree(root: Path, photos: str) -> Tree:
        opened = make(root)
        if photos != "all":
            raise SettingError(f'photos: expected "all" for {opened.name}, found {photos!r}')
        return opened

    return tree


def list_pictures(folder: Path, *, split: str | None = None, prefix: str = "") -> Listing:
    """List the images directly in `folder`; an id is `prefix` + the file's stem.

    Of two images with one stem, the first by `SUFFIXES` keeps the id and the other is a problem
    under its full name. Raises `DatasetError` where the folder is missing.
    """
    pictures, listing, others = [], Listing(), []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122 - 100,000 of them
                if entry.name.startswith(".") or suffix.lower() not in SUFFIXES:
                    if not _is_folder(entry):
                        others.append(entry.name)
                elif (reason := _no_file(entry)) is None:
                    pictures.append((SUFFIXES.index(suffix.lower()), entry.name, prefix + stem))
                elif reason:
                    listing.problems.append((shown(prefix + entry.name), reason))
    except OSError as error:
        raise DatasetError(f"cannot list {folder}: {error.strerror}") from error

    taken: dict[str, str] = {}
    for _, name, photo_id in sorted(pictures):
        if _NOT_TEXT.search(photo_id):
            reason = "its name has control characters or is not UTF-8"
            listing.problems.append((shown(prefix + name), reason))
        elif photo_id in taken:
            reason = f"has the same id as {taken[photo_id]}, which is used"
            listing.problems.append((prefix + name, reason))
        else:
            taken[photo_id] = name
            listing.photos.append(Photo(photo_id, folder / name, split))
    listing.photos.sort(key=lambda photo: photo.id)
    listing.problems.sort()
    if others:
        listing.notes.append(f"{folder}: {_some(others)} ignored: not named like an image")
    return listing


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _no_file(entry: os.DirEntry[str]) -> str | None:
    """Why an entry with an image's name is no file; "" for a folder, None for a file."""
    try:
        if entry.is_file():
            return None
        kind = kind_of(entry.stat().st_mode)
    except FileNotFoundError:
        return "is a link to a missing file" if entry.is_symlink() else "has vanished"
    except OSError as error:  # links in a circle, a folder of the link that may not be searched
        return f"cannot be examined: {error.strerror}"
    return "" if kind == "folder" else f"is a {kind}, not a file"


def shown(name: str) -> str:
    """A file name as messages and lists show it: escaped where it is not text on one line."""
    return ascii(name) if _NOT_TEXT.search(name) else name


def _some(names: Iterable[str], shown: int = 3) -> str:
    names = sorted(names)
    more = ", ..." if len(names) > shown else ""
    count = "1 file" if len(names) == 1 else f"{len(names)} files"
    return f"{count} ({', '.join(names[:shown])}{more})"
