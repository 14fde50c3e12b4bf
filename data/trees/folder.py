"""Any folder of images."""

from __future__ import annotations

import os
from pathlib import Path

from data.errors import DatasetError
from data.trees.dataset import Dataset
from data.trees.findings import Finding
from data.trees.tree import Listing, Photo, Tree, all_images, list_pictures, shown


class FolderTree(Tree):
    """Any folder of images and its subfolders; `a/b c.jpg` has the id `a__b c`."""

    name = "folder"

    def __init__(self, root: str | Path) -> None:
        super().__init__(Path(root))

    def mask_path(self, photo: Photo) -> None:
        return None

    def _list(self) -> Listing:
        if not self.root.is_dir():
            raise DatasetError(f"no images: {self.root} is not a folder")
        joined = Listing()
        taken: dict[str, Path] = {}
        for folder in _subfolders(self.root):
            parts = folder.relative_to(self.root).parts
            try:
                listing = list_pictures(folder, prefix="".join(f"{part}__" for part in parts))
            except DatasetError as error:
                if folder == self.root:
                    raise
                joined.problems.append((shown("/".join(parts)), str(error)))
                continue
            joined.notes += listing.notes
            joined.problems += listing.problems
            for photo in listing.photos:
                if photo.id in taken:
                    reason = f"has the same id as {taken[photo.id]}, which is used"
                    joined.problems.append((shown(str(photo.path.relative_to(self.root))), reason))
                else:
                    taken[photo.id] = photo.path
                    joined.photos.append(photo)
        if not joined.photos:
            raise DatasetError(f"{self.root}: no image in this folder or those below it")
        joined.photos.sort(key=lambda photo: photo.id)
        return joined

    def check(self) -> list[Finding]:
        try:
            count, problems = len(self.photos()), len(self.problems())
        except DatasetError as error:
            return [Finding("missing", str(error), self.root, "put images there")]
        findings = [Finding("ok", f"{count} images", self.root)]
        if problems:
            findings.append(Finding("warning", f"{problems} files that cannot be used", self.root))
        return findings


def _subfolders(root: Path) -> list[Path]:
    """`root` and the folders below it without hidden ones; links are followed, loops are not."""
    folders, visited = [], {root.resolve()}
    for folder, names, _ in os.walk(root, followlinks=True):
        folders.append(Path(folder))
        new = []
        for name in sorted(names):
            target = Path(folder, name).resolve()
            if not name.startswith(".") and target not in visited:
                visited.add(target)
                new.append(name)
        names[:] = new  # os.walk descends into these
    return folders


folder_tree = all_images(FolderTree)

FOLDER = Dataset("folder", "any folder of images", folder_tree, root_setting="folder")
