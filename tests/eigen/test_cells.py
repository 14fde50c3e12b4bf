"""Masks match the two colours of an image, at every size and for every way of reading it."""

from dataclasses import replace

import numpy as np
import pytest

import eigen
from eigen.extractors.contract import cells_of, whole_patches
from eigen.extractors.lowlevel import LowLevel
from eigen.masks import masks
from eigen.pairs import Cells
from eigen.picture import reduced

ABOUT = {"config": {}, "software": "0", "extractor": "lowlevel", "weights_sha256": ""}


def two_colours(size, border):
    """(H, W, 3) uint8, another colour from column `border` on."""
    image = np.full((*size, 3), (200, 60, 30), np.uint8)
    image[:, border:] = (20, 90, 160)
    return image


class MeanColour(LowLevel):
    """The mean colour of each patch, so that the second eigenvector has one value a colour."""

    def __call__(self, images):
        h, w = self.grid(images[0].shape[:2])
        means = [
            whole_patches(image, self.patch).reshape(h, self.patch, w, self.patch, 3).mean((1, 3))
            for image in images
        ]
        rows = np.stack(means).reshape(len(images), h * w, 3).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=2, keepdims=True)


def iou(mask, truth):
    return max((m & truth).sum() / (m | truth).sum() for m in (mask, ~mask))


@pytest.mark.parametrize("patch", [8, 14, 16])
@pytest.mark.parametrize("axis", [0, 1])
def test_masks_of_two_colours_at_every_size(patch, axis):
    for length in range(max(17, 2 * patch), 301):
        size = (2 * patch + length % 7, length)
        border = length // patch // 2 * patch
        image = two_colours(size, border)
        truth = np.zeros(size, bool)
        truth[:, border:] = True
        if axis == 0:
            image, truth = image.swapaxes(0, 1).copy(), truth.T
        pairs = eigen.eigenvectors(image, MeanColour(patch=patch), 2)
        assert iou(masks(pairs, method="otsu")[1], truth) >= 0.95, (length, patch)


@pytest.mark.parametrize("size", [(700, 1001), (333, 2222), (1999, 350)])
def test_masks_of_an_image_that_was_reduced(size):
    """The grid ends where whole patches of the reduced image end, not where the image does."""
    extractor = LowLevel()
    resized = reduced(np.zeros((*size, 3), np.uint8), 16, 40).shape[:2]
    cells = cells_of(extractor, size, resized)
    assert cells == Cells(16 * size[0] / resized[0], 16 * size[1] / resized[1])
    border = round(extractor.grid(resized)[1] // 2 * cells.width)
    pairs = eigen.eigenvectors(two_colours(size, border), extractor, 2, max_patches=40)
    truth = np.broadcast_to(np.arange(size[1]) >= border, size)
    assert pairs.cells == cells
    assert iou(masks(pairs, method="otsu")[1], truth) >= 0.95


def test_an_image_smaller_than_a_patch_sees_part_of_the_cells():
    pairs = eigen.eigenvectors(two_colours((5, 40), 16), LowLevel(), 2)
    assert pairs.cells == Cells(16, 16)
    truth = np.broadcast_to(np.arange(40) >= 16, (5, 40))
    assert iou(masks(pairs)[1], truth) >= 0.95


def test_an_extractor_may_place_its_cells():
    class Shifted(LowLevel):
        def cells(self, size):
            return Cells(16, 16, top=-8, left=4)

    image = np.zeros((64, 100, 3), np.uint8)
    assert cells_of(Shifted(), (64, 100)) == Cells(16, 16, top=-8, left=4)
    assert cells_of(Shifted(), (128, 100), (64, 100)) == Cells(32, 16, top=-16, left=4)
    pairs = replace(
        eigen.eigenvectors(image, LowLevel(), 1),
        vectors=np.where(np.arange(6) < 3, 1, -1)[None, None].repeat(4, 1).astype(np.float32),
        cells=Cells(16, 16, top=-8, left=4),
    )
    np.testing.assert_array_equal(masks(pairs)[0, 0], np.arange(100) < 52)


def test_cells_of_whole_numbers_interpolate_as_the_published_resize():
    """The general interpolation agrees with the one that whole cells take."""
    vectors = np.random.default_rng(0).standard_normal((1, 5, 7)).astype(np.float32)
    exact = eigen.upsample.upsample(vectors, (83, 120), cells=Cells.of_patches(16))
    nearly = eigen.upsample.upsample(vectors, (83, 120), cells=Cells(16 + 1e-5, 16 + 1e-5))
    np.testing.assert_allclose(nearly, exact, atol=1e-4)
