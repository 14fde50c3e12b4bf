"""What the web page offers to a visitor without a photo, and what it gives back as files."""

from __future__ import annotations

import importlib.resources
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from data.text.vocabulary import Vocabulary
    from eval.predict import Named

_THUMBNAIL = 96  # pixels


@dataclass(frozen=True)
class Example:
    """A photo, and words for what is in it."""

    path: Path
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return ", ".join(self.words)

    def thumbnail(self) -> dict[str, Any]:
        """The photo as the icon of a button."""
        from data.pictures import read_image
        from eval.report.thumbnails import picture_uri, shrink

        return {"path": "", "url": picture_uri(shrink(read_image(self.path), _THUMBNAIL))}

    def copied(self, folder: Path) -> Path:
        """A copy in a new folder below `folder`, to be removed like an upload."""
        copy = Path(tempfile.mkdtemp(dir=folder)) / self.path.name
        shutil.copyfile(self.path, copy)
        return copy


def examples() -> list[Example]:
    """scikit-image's photos that show what the packaged network has words for."""
    from data.synthetic.samples import PHOTOS, WORDS

    source = Path(str(importlib.resources.files("skimage.data")))
    paths = {Path(name).stem: source / name for name in PHOTOS}
    return [Example(paths[id], words) for id, words in WORDS.items() if paths[id].is_file()]


def write_downloads(
    folder: Path, stem: str, image: np.ndarray, named: Named, vocabulary: Vocabulary
) -> list[str]:
    """Overlay, label map, scores, and masks in COCO's results format: paths, in this order."""
    from eval.predict import write, write_coco

    folder.mkdir(parents=True, exist_ok=True)
    write(folder, stem, image, named, vocabulary)
    write_coco(folder / f"{stem}_coco.json", f"{stem}.png", named, vocabulary)
    names = (f"{stem}.png", f"{stem}_labels.png", f"{stem}.json", f"{stem}_coco.json")
    return [str(folder / name) for name in names]
