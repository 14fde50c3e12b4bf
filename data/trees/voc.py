"""PASCAL VOC 2012 on disk: JPEGImages, SegmentationClassAug, ImageSets/Segmentation."""

from __future__ import annotations

from pathlib import Path

from data.errors import DatasetError, SettingError
from data.sazs.benchmark import ROLES, Benchmark
from data.trees.dataset import Dataset
from data.trees.findings import Finding, compared, complete, counted
from data.trees.lists import read_ids
from data.trees.tree import Labelled, Listing, Photo, Tree, list_pictures

PUBLISHED_PHOTOS = 17_125
PUBLISHED_MASKS = 12_031
PUBLISHED_LISTS = {"trainaug": 10_582, "val": 1_449}

_ARCHIVE = (
    "VOCtrainval_11-May-2012.tar of the PASCAL VOC 2012 site; move its VOCdevkit/VOC2012 there"
)
_AUGMENTED = (
    "SegmentationClassAug, the masks of SBD and VOC joined (values 0 to 20, 255 void), as "
    "distributed for few-shot segmentation"
)


class PascalTree(Tree):
    """`{root}/VOC2012` (or `{root}/VOCdevkit/VOC2012`, or `root` itself).

    Parameters
    ----------
    photos
        "all": every image of JPEGImages; "listed": those that a list names or that have a mask.
    """

    name = "pascal"

    def __init__(self, root: str | Path, *, photos: str = "all") -> None:
        if photos not in ("all", "listed"):
            raise SettingError(f'photos: expected "all" or "listed", found {photos!r}')
        root = Path(root)
        candidates = (root / "VOC2012", root / "VOCdevkit" / "VOC2012", root)
        present = (folder for folder in candidates if (folder / "JPEGImages").is_dir())
        super().__init__(next(present, candidates[0]))
        self._only_listed = photos == "listed"

    @property
    def images(self) -> Path:
        return self.root / "JPEGImages"

    @property
    def masks(self) -> Path:
        return self.root / "SegmentationClassAug"

    def mask_path(self, photo: Photo) -> Path:
        return self.masks / f"{photo.id}.png"

    def lists(self) -> dict[str, list[str]]:
        """Ids in each ImageSets/Segmentation list, in file order; empty where there are none."""
        folder = self.root / "ImageSets" / "Segmentation"
        return {path.stem: read_ids(path) for path in sorted(folder.glob("[!.]*.txt"))}

    def labelled(self) -> dict[str, list[Labelled]]:
        if not self.masks.is_dir():
            raise DatasetError(f"{self.masks} is missing: expected {_AUGMENTED}")
        lists = self.lists()
        images = {photo.id: photo.path for photo in self.photos()}
        members: dict[str, list[Labelled]] = {}
        for role, name in zip(ROLES, ("trainaug", "val"), strict=True):
            if name not in lists:
                where = self.root / "ImageSets" / "Segmentation" / f"{name}.txt"
                raise DatasetError(
                    f"{where} is missing: it names the {role} images, one id per line"
                )
            members[role] = [
                Labelled(id, image, self.masks / f"{id}.png")
                for id in sorted(set(lists[name]))
                for image in [images.get(id, self.images / f"{id}.jpg")]
            ]
        return members

    def _list(self) -> Listing:
        if not self.images.is_dir():
            raise DatasetError(f"no images: expected the folder {self.images}. Get {_ARCHIVE}")
        listing = list_pictures(self.images)
        lists = self.lists()
        split_of = _splits(lists)
        known = {photo.id for photo in listing.photos}
        listing.photos = [
            Photo(photo.id, photo.path, split_of.get(photo.id)) for photo in listing.photos
        ]
        listing.problems += [
            (photo_id, f"listed in {split_of[photo_id]}.txt, but not in {self.images}")
            for photo_id in sorted(split_of.keys() - known)
        ]
        if self._only_listed:
            self._keep_listed(listing)
        if not listing.photos:
            raise DatasetError(f"{self.images}: expected images, found none")
        return listing

    def _keep_listed(self, listing: Listing) -> None:
        masked = {path.stem for path in self.masks.glob("*.png")} if self.masks.is_dir() else set()
        listed = [photo for photo in listing.photos if photo.split or photo.id in masked]
        if others := len(listing.photos) - len(listed):
            listing.notes.append(f"{self.images}: {others} images have neither a mask nor a list")
        listing.photos = listed

    def check(self) -> list[Finding]:
        findings = [
            counted("images", self.images, ".jpg", PUBLISHED_PHOTOS, _ARCHIVE),
            counted("augmented masks", self.masks, ".png", PUBLISHED_MASKS, _AUGMENTED),
        ]
        lists = self.lists()
        for name, published in PUBLISHED_LISTS.items():
            where = self.root / "ImageSets" / "Segmentation" / f"{name}.txt"
            what = f"list {name}"
            if name not in lists:
                how = f"one image id per line, {published} published; it comes with the masks"
                findings.append(Finding("missing", what, where, how))
            else:
                findings.append(compared(what, where, len(lists[name]), published, ""))
        for what, folder, suffix in (
            ("images of listed ids", self.images, ".jpg"),
            ("masks of listed ids", self.masks, ".png"),
        ):
            if folder.is_dir():
                findings.append(complete(what, folder, suffix, set().union(*lists.values())))
        return findings


def _splits(lists: dict[str, list[str]]) -> dict[str, str]:
    """List that an id belongs to. Lists overlap (trainval holds val); narrower ones come first."""
    narrow = [name for name in ("val", "trainaug", "train") if name in lists]
    split_of: dict[str, str] = {}
    for name in [*narrow, *sorted(lists.keys() - set(narrow))]:
        for photo_id in lists[name]:
            split_of.setdefault(photo_id, name)
    return split_of


# Found by comparison with the published lists (docs/data.md).
PASCAL_5I = Benchmark("pascal", classes=20, interleaved=False, start=1, stride=32, least=3)

PASCAL = Dataset(
    "pascal",
    "PASCAL VOC 2012",
    lambda root, photos: PascalTree(root, photos=photos),
    masks_in_tree=True,
    benchmark=PASCAL_5I,
    vocabulary="pascal",
)
