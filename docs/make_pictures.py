"""Make the pictures of the README and the documentation: `python docs/make_pictures.py`.

From scikit-image's own photos, with the network whose weights come in a Python package.
"""

import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import eigen
from data.pictures import read_image
from data.synthetic.samples import write_photos
from eigen.masks import masks
from eval import figures

HERE = Path(__file__).parent
PHOTOS = ("astronaut", "chelsea", "coffee", "motorcycle_left")


WIDTH = 170


def row(path: Path) -> list[np.ndarray]:
    """Photo, the four eigenvectors after the constant one, and the outlines of their masks."""
    image = read_image(path)
    pairs = eigen.eigenvectors(image, "efficientnet_lite2", k=5)
    size = (round(WIDTH * image.shape[0] / image.shape[1]), WIDTH)
    small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    vectors = [figures.vector_rgb(vector, size=size) for vector in pairs.vectors[1:]]
    return [small, *vectors, figures.outlines(small, masks(pairs, size)[1:])]


def main() -> None:
    target = HERE / "img" / "eigenvectors.jpg"
    with tempfile.TemporaryDirectory() as folder:
        paths = {path.stem: path for path in write_photos(folder)}
        tiles = [tile for name in PHOTOS for tile in row(paths[name])]
    picture = figures.mosaic(tiles, columns=6, gap=4)
    Image.fromarray(picture).save(target, quality=88)


if __name__ == "__main__":
    main()
