"""Find the photos of a data set: `open_tree(name, root)`."""

from __future__ import annotations

import os
from pathlib import Path

from data.errors import DatasetError
from data.trees.coco import CocoTree
from data.trees.findings import Finding
from data.trees.tree import Listing, Photo, Tree, list_pictures
from data.trees.voc import PascalTree

__all__ = ["NAMES", "DatasetError", "Finding", "FolderTree", "Photo", "Tree", "open_tree"]

NAMES = ("pascal", "coco", "folder")


def open_tree(name: str, root: str | Path, *, photos: str = "all") -> Tree:
    """Open the photos below `root` in the layout `name`; nothing is read yet.

    Parameters
    ----------
    name
        "pascal" (VOC2012), "coco" (2014 or 2017) or "folder" (any folder of pictures).
    root
        The folder that holds the data sets, or the data set itself; for "folder" the pictures.
    photos
        "all", or for "pascal" also "listed": only photos that a list names or that have a mask.

    Raises
    ------
    ValueError
        There is no such layout, or it cannot tell which photos are listed.
    """
    if name == "pascal":
        return PascalTree(root, photos=photos)
    if name not in NAMES:
        raise ValueError(f"data set: expected one of {', '.join(NAMES)}, found {name!r}")
    if photos != "all":
        raise ValueError(f'photos: expected "all" for the data set {name!r}, found {photos!r}')
    return CocoTree(root) if name == "coco" else FolderTree(root)


class FolderTree(Tree):
    """Any folder of pictures and its subfolders; `a/b c.jpg` has the id `a__b c`."""

    name = "folder"

    def __init__(self, root: str | Path) -> None:
        super().__init__(Path(root))

    def mask_path(self, photo: Photo) -> None:
        return None

    def _list(self) -> Listing:
        if not self.root.is_dir():
            raise DatasetError(f"no photos: there is no folder {self.root}")
        joined = Listing()
        taken: dict[str, Path] = {}
        for folder in _subfolders(self.root):
            parts = folder.relative_to(self.root).parts
            listing = list_pictures(folder, prefix="".join(f"{part}__" for part in parts))
            joined.notes += listing.notes
            joined.problems += listing.problems
            for photo in listing.photos:
                if photo.id in taken:
                    reason = f"has the same id as {taken[photo.id]}, which was taken"
                    joined.problems.append((str(photo.path.relative_to(self.root)), reason))
                else:
                    taken[photo.id] = photo.path
                    joined.photos.append(photo)
        if not joined.photos:
            raise DatasetError(f"{self.root}: no picture in this folder or those below it")
        joined.photos.sort(key=lambda photo: photo.id)
        return joined

    def check(self) -> list[Finding]:
        try:
            count, problems = len(self.photos()), len(self.problems())
        except DatasetError as error:
            return [Finding("missing", str(error), self.root, "put pictures there")]
        findings = [Finding("ok", f"{count} photos", self.root)]
        if problems:
            findings.append(Finding("warning", f"{problems} files that cannot be used", self.root))
        return findings


def _subfolders(root: Path) -> list[Path]:
    """`root` and the folders below it without hidden ones; links are followed, loops are not."""
    found, seen = [], {root.resolve()}
    for folder, names, _ in os.walk(root, followlinks=True):
        found.append(Path(folder))
        kept = []
        for name in sorted(names):
            target = Path(folder, name).resolve()
            if not name.startswith(".") and target not in seen:
                seen.add(target)
                kept.append(name)
        names[:] = kept
    return found
