"""The extractor interface, the rule that gives its patch grid, and the check of its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from data.errors import SettingError
from eigen.pairs import Cells, Size

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Extractor(Protocol):
    """The interface of an extractor; `eigen.extractors` states what each must guarantee.

    Attributes
    ----------
    name : str
        The name under which it is registered.
    patch : int
        Side of a patch in pixels.
    dim : int
        Feature dimension: columns of a row.
    mean, std : tuple of float
        Normalisation of RGB in 0..1 before the first operation; (0, 0, 0) and (1, 1, 1) for none.
    weights_sha256 : str or None
        SHA-256 of the weights, "random:SEED" for randomly initialised ones, None if it has none.
    device : str
        Where it computes: "cpu", "cuda" or "cuda:N".
    """

    @property
    def name(self) -> str: ...
    @property
    def patch(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def mean(self) -> tuple[float, float, float]: ...
    @property
    def std(self) -> tuple[float, float, float]: ...
    @property
    def weights_sha256(self) -> str | None: ...
    @property
    def device(self) -> str: ...

    def grid(self, size: Size) -> Size:
        """Node grid (h, w) of an image of `size` (H, W) pixels."""

    def config(self) -> dict[str, Any]:
        """Everything that decides the features, as values that JSON can hold."""

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Features (B, h*w, dim) float32, unit rows, of B images (H, W, 3) uint8 of one size."""

    def features_tensor(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """The same as a tensor that stays on the extractor's device."""


def cells_of(extractor: Extractor, size: Size, resized: Size | None = None) -> Cells:
    """Where the extractor's grid lies in an image of `size` (H, W).

    Square patches from the upper left corner, unless the extractor has a method `cells(size)` that
    places them otherwise. `resized` is the (H, W) at which the extractor receives the image.
    """
    resized = resized or size
    custom = getattr(extractor, "cells", None)
    cells = Cells.of_patches(extractor.patch) if custom is None else custom(resized)
    return cells.resized(resized, size)


def patch_grid(size: Size, patch: int) -> Size:
    """Grid (h, w) of whole patches in an image of `size` (H, W); at least 1 x 1."""
    return max(1, size[0] // patch), max(1, size[1] // patch)


def whole_patches(image: np.ndarray, patch: int) -> np.ndarray:
    """`image` (H, W, 3) cropped at the lower right to whole patches.

    A side shorter than one patch is extended to it by repeating the last row or column.
    """
    h, w = patch_grid(image.shape[:2], patch)
    missing = [(0, max(0, patch - side)) for side in image.shape[:2]]
    if any(after for _, after in missing):
        image = np.pad(image, [*missing, (0, 0)], mode="edge")
    return image[: h * patch, : w * patch]


def checked_size(images: Sequence[np.ndarray]) -> Size:
    """The one size (H, W) of a batch of images.

    Raises
    ------
    SettingError
        No image, an image that is not (H, W, 3) uint8 with a pixel in it, or images of several
        sizes.
    """
    if len(images) == 0:
        raise SettingError("images: expected one or more, found none")
    for index, image in enumerate(images):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise SettingError(
                f"image {index}: expected (H, W, 3) uint8, found {image.shape} {image.dtype};"
                " read it with data.pictures.read_image"
            )
    sizes = sorted({image.shape[:2] for image in images})
    if len(sizes) > 1:
        raise SettingError(
            f"images: expected one size per batch, found {len(sizes)} ({sizes[0]}, {sizes[1]},"
            " ...); group them by size"
        )
    return sizes[0]
