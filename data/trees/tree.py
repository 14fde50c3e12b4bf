"""What every tree of photos has: ids and paths, what is wrong with it, what belongs where.

A tree lists its folders lazily, once. Every file with a picture's name becomes either one `Photo`
of its own id or one problem; other files are counted in a note.
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
    """A photo of a tree. `split` names the list or folder it came by, where the tree has any."""

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
    """Photos sorted by id; problems as (id, reason); notes on files that are no pictures."""

    photos: list[Photo] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Tree(ABC):
    """A folder of photos in a known layout.

    `name` is the layout's name and `root` the folder in which its parts lie; both are set before
    anything is read, so a tree can be opened, and checked, where nothing is there yet.
    """

    name: str

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def _list(self) -> Listing: ...

    @abstractmethod
    def check(self) -> list[Finding]:
        """Which folders, lists and masks are there, and how to get what is not."""

    @abstractmethod
    def mask_path(self, photo: Photo) -> Path | None:
        """Where the label map of a photo belongs, whether or not it is there; None without any."""

    def labelled(self) -> dict[str, list[Labelled]]:
        """Images with label maps of each role of a benchmark ("trn", "val").

        Raises
        ------
        DatasetError
            The tree has no lists or no label maps; says how to get them.
        """
        raise DatasetError(f"lists: the data set {self.name!r} has no benchmark")

    @functools.cached_property
    def _listing(self) -> Listing:
        return self._list()

    def photos(self) -> list[Photo]:
        """Every readable name, sorted by id.

        Raises
        ------
        DatasetError
            The folder is missing or holds no picture.
        """
        return list(self._listing.photos)

    def problems(self) -> list[tuple[str, str]]:
        """What can never be processed, as (id, reason), for the quarantine. Raises as `photos`."""
        return list(self._listing.problems)

    def notes(self) -> list[str]:
        """What was left aside without being a photo, one line each. Raises as `photos`."""
        return list(self._listing.notes)


def all_images(make: Callable[[Path], Tree]) -> Callable[[Path, str], Tree]:
    """`make` as `Dataset.tree` takes it, for trees that cannot tell which images are listed."""

    def tree(root: Path, photos: str) -> Tree:
        made = make(root)
        if photos != "all":
            raise SettingError(f'photos: expected "all" for {made.name}, found {photos!r}')
        return made

    return tree


def list_pictures(folder: Path, *, split: str | None = None, prefix: str = "") -> Listing:
    """List the pictures directly in `folder`; an id is `prefix` + the file's stem.

    Of two pictures with one stem, the first by `SUFFIXES` keeps the id and the other is a problem
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
            reason = "its name is not text on one line"
            listing.problems.append((shown(prefix + name), reason))
        elif photo_id in taken:
            reason = f"has the same id as {taken[photo_id]}, which was taken"
            listing.problems.append((prefix + name, reason))
        else:
            taken[photo_id] = name
            listing.photos.append(Photo(photo_id, folder / name, split))
    listing.photos.sort(key=lambda photo: photo.id)
    listing.problems.sort()
    if others:
        listing.notes.append(f"{folder}: {_some(others)} left aside, not named like a picture")
    return listing


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _no_file(entry: os.DirEntry[str]) -> str | None:
    """Why an entry with a picture's name is no file; "" for a folder, None for a file."""
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
