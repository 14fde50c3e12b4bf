"""The images that come with scikit-image: real images without a download."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from data.files import atomic_path

PHOTOS = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
"""Files in scikit-image's own package folder; the licence of each is in its README.txt."""

WORDS = {
    "astronaut": ("person",),
    "camera": ("person",),
    "chelsea": ("cat",),
    "coffee": ("cup", "table"),
    "motorcycle_left": ("motorbike",),
    "rocket": ("tower", "sky"),
}
"""Words for what some of the photos show, for which the bundled network has embeddings."""

FRAMES = ("motorcycle_left.png", "motorcycle_right.png")
"""Two views of one scene, by a stereo camera."""


def write_photos(folder: str | Path) -> list[Path]:
    """Copy the images to `folder` and return their paths.

    Raises
    ------
    FileNotFoundError
        The installed scikit-image lacks one of them; the error names it.
    """
    source = importlib.resources.files("skimage.data")
    written = []
    for name in PHOTOS:
        target = Path(folder) / name
        with atomic_path(target) as temporary:
            temporary.write_bytes((source / name).read_bytes())
        written.append(target)
    return written


def frames() -> dict[str, Path]:
    """Paths of `FRAMES` in scikit-image's own folder, by their names without the ending."""
    source = Path(str(importlib.resources.files("skimage.data")))
    return {Path(name).stem: source / name for name in FRAMES}
