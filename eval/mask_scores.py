"""How well each class describes given masks, by a trained SAZS or ZegFormer: means over pixels."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from data.zegformer.transforms import test_image
from eval.sazs.segmenter import SazsSegmenter
from eval.zegformer.per_pixel import PixelSegmenter
from eval.zegformer.segmenter import Segmenter


class MaskScores(Protocol):
    """(H, W, 3) uint8 image and (M, H, W) bool masks -> (M, C) float32 scores from 0 to 1."""

    def __call__(self, image: np.ndarray, masks: np.ndarray) -> np.ndarray: ...


def of_sazs(segmenter: SazsSegmenter, texts: Tensor) -> MaskScores:
    """The mean probability of each class against "others".

    Parameters
    ----------
    texts : Tensor, shape (C + 1, D)
        Text embeddings of "others" and of the classes.
    """

    def scores(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
        size = (image.shape[0], image.shape[1])
        features = segmenter.features(image)
        # A class at a time: the maps of a large vocabulary would not fit in memory.
        columns = [
            _means(_sigmoid(segmenter.margins(features, texts[[0, row]], size)), masks)
            for row in range(1, len(texts))
        ]
        return np.concatenate(columns, axis=1)

    return scores


def of_zegformer(segmenter: Segmenter | PixelSegmenter, *, short: int, longest: int) -> MaskScores:
    """The mean of each class's calibrated score map, as shares of their sum where that exceeds 1.

    Parameters
    ----------
    short, longest : int
        Shorter side of the network's input in pixels, and the largest longer side.
    """

    def scores(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
        size = (image.shape[0], image.shape[1])
        view = test_image(image, short=short, longest=longest)
        pixels = torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1)))
        if isinstance(segmenter, PixelSegmenter):
            means = _means(segmenter.maps(pixels, size).cpu().numpy(), masks)
        else:
            (found,) = segmenter.segments([pixels])
            area = np.maximum(masks.sum(axis=(1, 2)), 1)[:, None]
            sums = [
                _sums(maps.cpu().numpy(), masks[:, band])
                for band, maps in segmenter.bands(found, size)
            ]
            means = np.sum(sums, axis=0) / area
        means = np.clip(means, 0, None)
        return (means / np.maximum(means.sum(axis=1, keepdims=True), 1)).astype(np.float32)

    return scores


def _sums(planes: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Sum of (C, H, W) planes over each of (M, H, W) masks, (M, C) float64."""
    flat = planes.reshape(len(planes), -1)
    rows = [flat[:, mask.ravel()].sum(axis=1, dtype=np.float64) for mask in masks]
    return np.array(rows).reshape(len(masks), len(planes))


def _means(planes: np.ndarray, masks: np.ndarray) -> np.ndarray:
    area = np.maximum(masks.sum(axis=(1, 2)), 1)[:, None]
    return (_sums(planes, masks) / area).astype(np.float32)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return torch.from_numpy(values).sigmoid().numpy()
