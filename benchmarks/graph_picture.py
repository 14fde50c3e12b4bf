"""Eigenvectors of the patch and the pixel graph side by side, one row per image.

    python -m benchmarks.graph_picture --out graphs.jpg [PHOTO ...]

By default three images of scikit-image. Columns: the image; vectors 1 to 3 (counted from
the constant one, 0) of the patch graph; the same with the colour kNN graph times 10 added; vectors
1 to 4 of the pixel graph.
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
from PIL import Image

import eigen
from data.files import atomic_path
from data.pictures import read_image
from eigen.extractors import Extractor
from eigen.upsample import upsample_pairs
from eval.figures import mosaic, vector_rgb
from pipeline.commands import help_text

GRAPHS = (
    ("patch", eigen.GraphSpec(), 4),
    ("patch + 10 colour", eigen.GraphSpec(colour="knn", colour_weight=10.0), 4),
    ("pixel", eigen.GraphSpec(kind="pixel"), 5),
)


def samples() -> list[np.ndarray]:
    """Images of scikit-image."""
    from skimage import data

    return [data.coffee(), data.chelsea(), data.astronaut()]


def row(image: np.ndarray, extractor: Extractor, width: int) -> tuple[list, list[str]]:
    """Tiles of one image with their captions."""
    size = width, round(width * image.shape[0] / image.shape[1])
    tiles, captions = [cv2.resize(image, size, interpolation=cv2.INTER_AREA)], [""]
    for name, graph, k in GRAPHS:
        pairs = eigen.eigenvectors(image, extractor, k, graph=graph, tolerance=1e-4)
        for index, plane in enumerate(upsample_pairs(pairs)):
            if index:
                shrunk = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
                tiles.append(vector_rgb(shrunk))
                captions.append(f"{name}, {index}")
    return tiles, captions


@click.command(help=help_text(__doc__))
@click.argument("photos", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--extractor", "name", default="lowlevel8", show_default=True)
@click.option("--width", default=150, show_default=True, help="Width of a tile, in pixels.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help=".jpg or .png")
def main(photos: tuple[Path, ...], name: str, width: int, out: Path) -> None:
    extractor = eigen.extractor(name)
    tiles, captions = [], []
    for image in [read_image(path) for path in photos] or samples():
        more_tiles, more_captions = row(image, extractor, width)
        tiles += more_tiles
        captions += more_captions
    columns = 1 + sum(k - 1 for _, _, k in GRAPHS)
    sheet = mosaic(tiles, columns=columns, captions=captions, gap=4)
    with atomic_path(out) as temporary:
        Image.fromarray(sheet).save(temporary, quality=82)


if __name__ == "__main__":
    main()
