"""Features and images whose objects are known."""

import cv2
import numpy as np


def two_blobs(size=(192, 256)):
    """A bright disc and a smaller dark square on grey, with a little noise: image, their masks."""
    image = np.full((*size, 3), 128, np.uint8)
    disc, square = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    cv2.circle(disc, (80, 90), 44, 1, -1)
    cv2.rectangle(square, (168, 60), (216, 116), 1, -1)
    image[disc > 0] = (230, 190, 40)
    image[square > 0] = (30, 40, 150)
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), disc > 0, square > 0


def planted(mask, *more, noise=0.05, seed=0):
    """Unit features on the grid of the masks: one direction for the ground and each mask."""
    labels = np.zeros(mask.shape, int)
    for value, region in enumerate((mask, *more), start=1):
        labels[region] = value
    rows = np.eye(8, dtype=np.float32)[labels.ravel()]
    rows += noise * np.random.default_rng(seed).standard_normal(rows.shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def block(grid, rows, columns):
    mask = np.zeros(grid, bool)
    mask[rows[0] : rows[1], columns[0] : columns[1]] = True
    return mask


def iou(a, b):
    return (a & b).sum() / (a | b).sum()
