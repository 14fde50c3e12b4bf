"""COCO on disk, under its 2014 and its 2017 folder names."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from data.errors import DatasetError
from data.sazs.benchmark import ROLES, Benchmark
from data.trees.dataset import Dataset
from data.trees.findings import Finding, counted
from data.trees.tree import Labelled, Listing, Photo, Tree, all_images, list_pictures

PUBLISHED_PHOTOS = {
    "train2014": 82_783,
    "val2014": 40_504,
    "train2017": 118_287,
    "val2017": 5_000,
}


class CocoTree(Tree):
    """Photos in `train{year}` and `val{year}` of `{root}/COCO2014`, COCO2017, coco, or `root`.

    The 2014 and 2017 sets are the same images, split differently, so only one year is read: the
    first that exists.
    """

    name = "coco"

    def __init__(self, root: str | Path) -> None:
        root = Path(root)
        bases = (root / "COCO2014", root / "COCO2017", root / "coco", root)
        candidates = list(product(bases, ("2014", "2017")))
        present = (
            (base, year)
            for base, year in candidates
            if (base / f"train{year}").is_dir() or (base / f"val{year}").is_dir()
        )
        base, self.year = next(present, candidates[0])
        super().__init__(base)

    @property
    def splits(self) -> tuple[str, str]:
        return f"train{self.year}", f"val{self.year}"

    def mask_path(self, photo: Photo) -> Path:
        return self.root / "annotations" / str(photo.split) / f"{photo.id}.png"

    def instances_path(self, split: str) -> Path:
        """The official annotations of a split."""
        return self.root / "annotations" / f"instances_{split}.json"

    def labelled(self) -> dict[str, list[Labelled]]:
        members: dict[str, list[Labelled]] = {role: [] for role in ROLES}
        role_of = dict(zip(self.splits, ROLES, strict=True))
        for photo in self.photos():
            name = f"{photo.split}/{photo.path.name}"
            label = Labelled(name, photo.path, self.mask_path(photo))
            members[role_of[str(photo.split)]].append(label)
        for split, role in role_of.items():
            folder = self.root / "annotations" / split
            labels = {path.stem for path in folder.glob("[!.]*.png")}
            if members[role] and not labels:
                raise DatasetError(
                    f"{folder}: expected label maps, found none; run: python -m pipeline coco-masks"
                )
            members[role] += [
                Labelled(f"{split}/{name}.jpg", self.root / split / f"{name}.jpg", label)
                for name in sorted(labels - {member.label.stem for member in members[role]})
                for label in [folder / f"{name}.png"]
            ]
        return members

    def _list(self) -> Listing:
        joined = Listing()
        for split in self.splits:
            folder = self.root / split
            if not folder.is_dir():
                joined.notes.append(f"{folder} is missing; its images are not part of this run")
                continue
            listing = list_pictures(folder, split=split)
            joined.photos += listing.photos
            joined.problems += listing.problems
            joined.notes += listing.notes
        if not joined.photos:
            folders = " or ".join(str(self.root / split) for split in self.splits)
            raise DatasetError(f"no images: expected images in {folders}. Get {self._archives()}")
        joined.photos.sort(key=lambda photo: photo.id)
        return joined

    def _archives(self) -> str:
        return " and ".join(f"{split}.zip" for split in self.splits) + " of the COCO site"

    def check(self) -> list[Finding]:
        findings = []
        annotations = f"annotations_trainval{self.year}.zip of the COCO site"
        for split in self.splits:
            published = PUBLISHED_PHOTOS[split]
            where = self.root / split
            how = f"{split}.zip of the COCO site, unpacked into {self.root}"
            findings.append(counted(f"images {split}", where, ".jpg", published, how))

            instances = self.instances_path(split)
            what, exists = f"official instances of {split}", instances.is_file()
            level, how = ("ok", "") if exists else ("missing", annotations)
            findings.append(Finding(level, what, instances, how))

            how = f"`python -m pipeline coco-masks` makes them from {instances.name}"
            masks = self.root / "annotations" / split
            findings.append(counted(f"masks {split}", masks, ".png", published, how))
        return findings


# Found by comparison with the published lists (docs/data.md).
COCO_20I = Benchmark("coco", classes=80, interleaved=True, start=0, stride=1, least=2 * 32 * 32)

COCO = Dataset(
    "coco",
    "COCO 2014 or 2017",
    all_images(CocoTree),
    masks_in_tree=True,
    benchmark=COCO_20I,
    vocabulary="coco",
)
