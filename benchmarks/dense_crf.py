"""A fully connected CRF with Gaussian edges, to compare with: mean field on a lattice.

Krähenbühl and Koltun, "Efficient inference in fully connected CRFs with Gaussian edge potentials",
NIPS 2011; Adams, Baek and Davis, "Fast high-dimensional filtering using the permutohedral lattice",
Eurographics 2010. pydensecrf, which most people use, no longer builds. Gaussian filtering is
splatting to the lattice, a blur along each of its axes, and slicing: three sparse products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

Kernels = tuple["GaussianFilter", "GaussianFilter"]


@dataclass(frozen=True)
class DenseCRF:
    """Weights and widths of the two kernels, in pixels and grey levels; steps of the mean field.

    Weights of 3 and 4 and the width of places are those of DeepLab (Chen et al., PAMI 2018).
    """

    bilateral: float = 4.0
    place: float = 67.0
    colour: float = 10.0
    spatial: float = 3.0
    near: float = 3.0
    steps: int = 5

    def __call__(self, margins: np.ndarray, filters: Kernels) -> np.ndarray:
        """Probabilities (C, H, W) of C two-class problems, from their log-odds.

        Of two classes with a Potts model, the mean field is a fixed point of one log-odds map:
        x = margin + K (2 sigma(x) - 1).
        """
        unary = margins.reshape(len(margins), -1).T.astype(np.float32)
        x = unary
        for _ in range(self.steps):
            expected = np.tanh(x / 2)  # 2 sigma(x) - 1
            joint, spatial = (kernel(expected) for kernel in filters)
            x = unary + self.bilateral * joint + self.spatial * spatial
        return (1 / (1 + np.exp(-np.clip(x, -30, 30)))).T.reshape(margins.shape)


def kernels(image: np.ndarray, place: float, colour: float, near: float) -> Kernels:
    """The filters of an image (H, W, 3) uint8: of place and colour together, and of place."""
    places = np.indices(image.shape[:2]).reshape(2, -1).T.astype(np.float64)
    joint = np.hstack([places / place, image.reshape(-1, 3) / colour])
    return GaussianFilter(joint), GaussianFilter(places / near)


class GaussianFilter:
    """exp(-|a - b|^2 / 2) between all pairs of N points, with its rows and columns normalised.

    Parameters
    ----------
    points : ndarray, (N, d), float64
    """

    def __init__(self, points: np.ndarray) -> None:
        d = points.shape[1]
        corners, shares = _simplices(points)
        keys, self._base = _packed(corners.reshape(-1, d))
        vertices, place = np.unique(keys, return_inverse=True)
        rows = np.repeat(np.arange(len(points)), d + 1)
        shape = len(points), len(vertices)
        entries = shares.ravel().astype(np.float32)
        self._slice = sp.csr_array((entries, (rows, place.ravel())), shape=shape)
        self._splat = sp.csr_array(self._slice.T)
        self._blurs = [self._blur(vertices, axis, d) for axis in range(d + 1)]
        ones = self._filtered(np.ones((len(points), 1), np.float32))
        self._root = 1 / np.sqrt(np.maximum(ones, 1e-12))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Filter the columns of (N, C) float32."""
        return self._root * self._filtered(self._root * values)

    def _filtered(self, values: np.ndarray) -> np.ndarray:
        lattice = self._splat @ values
        for blur in self._blurs:
            lattice = blur @ lattice
        return self._slice @ lattice

    def _blur(self, vertices: np.ndarray, axis: int, d: int) -> sp.csr_array:
        """1/4, 1/2, 1/4 along one of the d + 1 axes of the lattice."""
        step = -np.ones(d, np.int64)
        if axis < d:
            step[axis] = d
        # A packed key is linear in the vertex, so a step is the same difference everywhere.
        ahead = vertices + int(step @ self._base)
        found = np.searchsorted(vertices, ahead)
        found[found == len(vertices)] = 0
        here = np.flatnonzero(vertices[found] == ahead)
        there = found[here]
        quarter = np.full(2 * len(here), 0.25, np.float32)
        ends = np.concatenate([here, there]), np.concatenate([there, here])
        n = len(vertices)
        links = sp.csr_array((quarter, ends), shape=(n, n))
        return sp.csr_array(links + 0.5 * sp.eye_array(n, dtype=np.float32))


def _packed(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One int64 per row of (n, d) integers, linear in the row, and its coefficients."""
    low, high = corners.min(0), corners.max(0)
    # Room for one step beyond, so that no sum carries over into the next digit.
    room = high - low + 2 * (corners.shape[1] + 2)
    base = np.concatenate([[1], np.cumprod(room[:-1])])
    return corners @ base, base


def _simplices(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (N, d + 1, d) int64 of each point's simplex, and its barycentric coordinates."""
    n, d = points.shape
    raised = _raised(points)
    zero = np.rint(raised / (d + 1)).astype(np.int64) * (d + 1)
    order = np.argsort(zero - raised, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(d + 1), (n, d + 1)), axis=1)
    # The nearest multiples may not sum to 0: move those that were rounded furthest.
    rank += zero.sum(1, keepdims=True) // (d + 1)
    zero += np.where(rank < 0, d + 1, 0) - np.where(rank > d, d + 1, 0)
    rank %= d + 1
    shares = np.zeros((n, d + 2))
    rest = (raised - zero) / (d + 1)
    each = np.arange(n)[:, None]
    np.add.at(shares, (each, d - rank), rest)
    np.add.at(shares, (each, d - rank + 1), -rest)
    shares[:, 0] += 1 + shares[:, -1]
    remainder = np.arange(d + 1)[None, :, None]
    rank, zero = rank[:, None, :-1], zero[:, None, :-1]
    corners = zero + np.where(rank <= d - remainder, remainder, remainder - (d + 1))
    return corners, shares[:, :-1]


def _raised(points: np.ndarray) -> np.ndarray:
    """Points on the hyperplane of zero sum in d + 1 dimensions, scaled so that a blur is unit."""
    d = points.shape[1]
    i = np.arange(1, d + 1)
    scaled = points * (np.sqrt(2 / 3) * (d + 1) / np.sqrt(i * (i + 1)))
    raised = np.zeros((len(points), d + 1))
    raised[:, :-1] = np.cumsum(scaled[:, ::-1], axis=1)[:, ::-1]
    raised[:, 1:] -= i * scaled
    return raised
