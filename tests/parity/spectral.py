"""Eigenvalues, eigenvectors and masks of Deep Spectral Methods: `spectral`, `spectral_toy`.

What the library does is done by the library: features, graphs with and without colours, solving,
signs. What only the reference has (similarities below 0 kept, Laplacian not normalised, features
not normalised or resized, the plain affinity, SVD) is put together here from its description.

Errors: eigenvalues absolute (those of matrices that are not normalised: by the largest row sum),
vectors 1 - cosine, masks in cells, figures of matrices relative, k-means inertia relative to the
reference's largest. Nearest neighbours at equal distances may be chosen otherwise for one node in a
thousand, which changes the rows of its neighbours too: the share of rows that differ is compared.
How much more room ties need depends on the image (flat regions are full of them) and is measured:
colours are moved by about the rounding of float32, and twice the largest change is allowed.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from PIL import Image
from scipy import sparse
from skimage import data
from sklearn.cluster import KMeans
from torch.nn import functional

from eigen.extractors import extractor
from eigen.graphs import colour
from eigen.graphs.affinity import TriangleAffinity
from eigen.graphs.build import GraphSpec, build
from eigen.solvers.canonical import fix_signs
from eigen.solvers.solve import solve
from eigen.solvers.spec import SolveSpec
from tests.parity.case import Case, available, largest_difference
from tests.parity.fill import fill
from tests.parity.golden import Golden, index

FILES = ("spectral.npz", "spectral_toy.npz")
EIGENVALUES, FEATURES, FIGURES = 5e-6, 2e-5, 1e-6
ROWS_OF_TIES, SQUARES_OF_TIES = 0.03, 1e-5
JITTER, JITTERED = 1e-7, (1, 2, 3)
CLEAR, CLOSE = 1e-5, 1e-3
CLOSE_GAP = 1e-3
COLOURS = r"(knn|rw)(\d+(?:\.\d+)?)"
NAMES = {"knn": "knn", "rw": "random_walk"}


@dataclass(frozen=True)
class Subject:
    """Raw features (n, d) of an image on a grid; `patch` is the side of a node in pixels.

    jitter: seed of the noise that is added to the colours; 0 for none.
    """

    raw: np.ndarray
    image: np.ndarray
    grid: tuple[int, int]
    patch: int = 16
    jitter: int = 0

    @functools.cached_property
    def unit(self) -> np.ndarray:
        return self.raw / np.linalg.norm(self.raw, axis=1, keepdims=True)

    def refined(self, side: int) -> Subject:
        """The normalised features resized bilinearly to nodes of `side` pixels."""
        h, w = (cells * self.patch // side for cells in self.grid)
        planes = torch.from_numpy(self.unit.T.reshape(1, -1, *self.grid))
        resized = functional.interpolate(planes, (h, w), mode="bilinear", align_corners=False)
        raw = resized[0].flatten(1).T.contiguous().numpy()
        return replace(self, raw=raw, grid=(h, w), patch=side)

    def colour_affinity(self, kind: str) -> sparse.csr_array:
        small = colour.resize_for_grid(self.image, self.grid)
        if self.jitter:
            rng = np.random.default_rng(self.jitter)
            small = small + rng.uniform(-JITTER, JITTER, small.shape)
        return colour.knn_affinity(small) if kind == "knn" else colour.random_walk_affinity(small)


def cases(folder: Path) -> Iterator[Case]:
    for name, check in (("spectral_toy", _toy_cases), ("spectral", _photo_cases)):
        golden = Golden.find(folder, name)
        if golden is None:
            continue
        image = photograph(golden)
        if image is None:
            yield Case(f"{name} photo {golden.info['photo']} (not available)", np.inf, 0.0)
        else:
            yield from available(check(golden, image))


def _toy_cases(golden: Golden, image: np.ndarray) -> Iterator[Case]:
    yield from _variants(golden, _toy(golden, image))


def _photo_cases(golden: Golden, image: np.ndarray) -> Iterator[Case]:
    if "photo_sha256" in golden.info:
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        differs = digest != golden.info["photo_sha256"]
        yield Case(f"{golden.name} {golden.info['photo']} is another image", float(differs), 0.0)
    subject = _subject(golden, image)
    yield golden.case("k", subject.raw, FEATURES)
    small = 255 * colour.resize_for_grid(subject.image, subject.grid)
    yield golden.case("image_lr", small, 255 * FIGURES)
    yield from _features_matrix(golden, subject)
    yield from _colours(golden, subject)
    yield from _variants(golden, subject)


def photograph(golden: Golden) -> np.ndarray | None:
    """The image that the file names, (H, W, 3) uint8, or None where it is not available.

    Either `skimage.data.NAME()`, of the images that scikit-image installs, or a file in the folder.
    """
    name = golden.info["photo"]
    installed = re.fullmatch(r"(?:skimage\.)?data\.(\w+)\(\)", name)
    if installed and hasattr(data, installed[1]):
        image = Image.fromarray(getattr(data, installed[1])())
    elif (golden.folder / name).is_file():
        image = Image.open(golden.folder / name)
    else:
        return None
    return np.array(image.convert("RGB"))


def _toy(golden: Golden, image: np.ndarray) -> Subject:
    if "crop" in golden.info:
        image = image[index(golden.info["crop"].removeprefix("photo"))]
    return Subject(golden.file["features"], image, tuple(golden.info["grid"]))


def _subject(golden: Golden, image: np.ndarray) -> Subject:
    made = extractor(golden.info["model"], weights="random:0", device="cpu")
    fill(made.reader.network, golden.info["seed"])  # type: ignore[attr-defined]
    h, w = made.grid(image.shape[:2])
    cropped = image[: h * made.patch, : w * made.patch]
    pixels = torch.from_numpy(cropped).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(made_of)[:, None, None] for made_of in (made.mean, made.std))
    with torch.inference_mode():
        raw = made.reader(((pixels - mean) / std)[None])[0]  # type: ignore[attr-defined]
    return Subject(raw.numpy(), image, (h, w), made.patch)


def _variants(golden: Golden, subject: Subject) -> Iterator[Case]:
    for key in sorted(k for k in golden.file if k.endswith(".val")):
        name = key.removesuffix(".val")
        values, vectors, weights = solved(name, subject, len(golden.file[key]))
        plain = "nolapnorm" in name or name.startswith("affinity")
        scale = weights.max() if plain else 1.0
        weights = np.ones_like(weights) if plain else weights
        ties = Ties.measured(name, subject, values, vectors, weights)
        for suffix in (".val", ".val_exact"):
            if name + suffix in golden.file:
                error = largest_difference(values, golden.file[name + suffix]) / scale
                yield Case(f"{golden.name} {name}{suffix}", error, EIGENVALUES + ties.values)
        if f"{name}.vec" in golden.file:
            yield from _vectors(golden, name, vectors, weights, ties)
        yield from _segments(golden, name, values, vectors, subject.grid, ties)


@dataclass(frozen=True)
class Ties:
    """Room for other choices among equally near neighbours: none where no choice is open.

    values: of eigenvalues; vectors: of 1 - cosine, each; cells: of the mask of the second vector.
    """

    values: float
    vectors: np.ndarray
    cells: int

    @classmethod
    def measured(
        cls,
        name: str,
        subject: Subject,
        values: np.ndarray,
        vectors: np.ndarray,
        weights: np.ndarray,
    ) -> Ties:
        moved, turned, cells = 0.0, np.zeros(len(vectors)), 0
        for seed in JITTERED if "knn" in name else ():
            found, others, _ = solved(name, replace(subject, jitter=seed), len(values))
            moved = max(moved, largest_difference(values, found))
            turned = np.maximum(turned, 1 - np.abs(cosines(weights, vectors, others)))
            differing = np.count_nonzero((vectors[1] > 0) != (others[1] > 0))
            cells = max(cells, min(differing, vectors.shape[1] - differing))
        # Twice the angle is four times 1 - cosine.
        return cls(2 * moved, 4 * turned, 2 * cells)


def cosines(weights: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows in the inner product of the weights."""
    norms = np.sqrt((a * a) @ weights * ((b * b) @ weights))
    return (a * b) @ weights / norms


def solved(name: str, subject: Subject, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues (k,), vectors (k, n) and degrees (n,) of a variant, by its name."""
    if name.startswith("affinity_svd"):
        left, values, _ = scipy.linalg.svd(subject.unit.astype(np.float64), full_matrices=False)
        return values[:k], fix_signs(left[:, :k]).T, np.ones(len(left))
    if name.startswith("affinity"):
        W = np.maximum(_products(subject.unit), 0)
        values, vectors = np.linalg.eigh(W)
        return values[-k:], fix_signs(vectors[:, : -k - 1 : -1]).T, W.sum(axis=1)
    if "nothreshold" in name or "nolapnorm" in name:
        return _reference_only(name, subject, k)
    if down := re.search(r"_down(\d+)", name):
        subject = subject.refined(int(down[1]))
    if "nonormalize" in name or down or subject.jitter:
        features = subject.raw if "nonormalize" in name or down else subject.unit
        W = _relative(np.maximum(_products(features), 0)) + _colour_term(name, subject)
        solution, degree = solve(W, SolveSpec(k=k, tolerance=1e-10)), W.sum(axis=1)
    else:
        colours = re.match(COLOURS, name)
        spec = GraphSpec(
            colour=NAMES[colours[1]] if colours else "none",
            colour_weight=float(colours[2]) if colours else 0.0,
        )
        graph = build(spec, subject.unit, subject.grid, subject.image)
        assert isinstance(graph.W, TriangleAffinity)
        # Vectors with gaps of 1e-4 compare to 1e-3 only if solved far beyond the rounding of W.
        solution = solve(graph.W.toarray().astype(np.float64), SolveSpec(k=k, tolerance=1e-10))
        degree = graph.W.matmat(np.ones((len(subject.unit), 1)))[:, 0]
    return solution.eigenvalues, solution.vectors.T, degree


def _products(features: np.ndarray) -> np.ndarray:
    wide = features.astype(np.float64)
    return wide @ wide.T


def _relative(similarities: np.ndarray) -> np.ndarray:
    return similarities / similarities.max()


def _colour_term(name: str, subject: Subject) -> np.ndarray | float:
    found = re.match(COLOURS, name)
    if not found:
        return 0.0
    return float(found[2]) * subject.colour_affinity(found[1]).toarray()


def _reference_only(
    name: str, subject: Subject, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Graphs that break the contract of an affinity, or the plain Laplacian: nearest to 0."""
    similarities = _products(subject.unit)
    W = _relative(similarities if "nothreshold" in name else np.maximum(similarities, 0))
    degree = W.sum(axis=1)
    degree[degree < 1e-12] = 1
    mass = None if "nolapnorm" in name else np.diag(degree)
    values, vectors = scipy.linalg.eigh(np.diag(degree) - W, mass)
    nearest = np.sort(np.argsort(np.abs(values), kind="stable")[:k])
    return values[nearest], fix_signs(vectors[:, nearest]).T, degree


def _vectors(
    golden: Golden, name: str, ours: np.ndarray, weights: np.ndarray, ties: Ties
) -> Iterator[Case]:
    theirs = golden.file[f"{name}.vec"].astype(np.float64)
    if ours.shape != theirs.shape:
        yield Case(f"{golden.name} {name}.vec (shape)", np.inf, CLOSE)
        return
    gaps = golden.file.get(f"{name}.gap", np.full(len(theirs), np.inf))
    before = np.concatenate([[np.inf], gaps[:-1]])
    own_error = 1 - np.abs(golden.file.get(f"{name}.cos", np.ones(len(theirs))))
    for i, cosine in enumerate(cosines(weights, ours, theirs)):
        allowed = CLOSE if min(gaps[i], before[i]) < CLOSE_GAP else CLEAR
        # The reference's float32 vectors can be further than that from those of its own matrix.
        allowed = max(allowed, 2 * own_error[i]) + ties.vectors[i]
        yield Case(
            f"{golden.name} {name}.vec[{i}]",
            1 - (cosine if _has_a_sign(theirs[i]) else abs(cosine)),
            allowed,
        )


def _has_a_sign(vector: np.ndarray) -> bool:
    """Whether the published rule settles the sign: not all of one sign, nor half of each."""
    positive = np.mean(vector > 0)
    return bool(abs(positive - 0.5) > 0.02 and 0 < positive < 1)


def _segments(
    golden: Golden,
    name: str,
    values: np.ndarray,
    vectors: np.ndarray,
    grid: tuple[int, int],
    ties: Ties,
) -> Iterator[Case]:
    if f"{name}.single" in golden.file:
        second, mask = vectors[1].reshape(grid), golden.file[f"{name}.single"]
        settled = np.abs(second) > 1e-4 * np.abs(second).max()
        differing = np.count_nonzero(((second > 0) != (mask == 255)) & settled)
        if not _has_a_sign(second):
            differing = min(differing, np.count_nonzero(settled) - differing)
        yield Case(f"{golden.name} {name}.single (cells)", float(differing), float(ties.cells))
    for rule in ("fixed4", "adaptive"):
        if f"{name}.{rule}.n" in golden.file:
            yield from _groups(golden, f"{name}.{rule}", rule, values, vectors[1:].T, grid)


def _groups(
    golden: Golden,
    key: str,
    rule: str,
    values: np.ndarray,
    points: np.ndarray,
    grid: tuple[int, int],
) -> Iterator[Case]:
    count = 4
    if rule == "adaptive":
        gaps = np.diff(values)
        count = 2 + int(np.argmax(gaps[1:]))
    yield Case(f"{golden.name} {key}.n", abs(count - float(golden.file[f"{key}.n"])), 0.0)
    found = KMeans(count, n_init=10, random_state=0).fit(points.astype(np.float64))
    above = found.inertia_ / float(golden.file[f"{key}.inertia"].max()) - 1
    yield Case(f"{golden.name} {key}.inertia above the largest", above, 0.02)
    if f"{key}.partition" not in golden.file:
        return
    labels = found.labels_.reshape(grid)
    first = np.unique(labels.ravel(), return_index=True)[1]
    partition = np.argsort(np.argsort(first))[labels]
    differing = np.count_nonzero(partition != golden.file[f"{key}.partition"])
    yield Case(f"{golden.name} {key}.partition (cells)", float(differing), 0.0)
    frame = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
    background = labels == np.bincount(frame, minlength=count).argmax()
    differing = np.count_nonzero(background != golden.file[f"{key}.background"])
    yield Case(f"{golden.name} {key}.background (cells)", float(differing), 0.0)


def _colours(golden: Golden, subject: Subject) -> Iterator[Case]:
    for key in sorted(k for k in golden.file if k.endswith(".nnz")):
        name = key.removesuffix(".nnz")
        kind, _, side = name.partition("_down")
        h, w = (cells * subject.patch // int(side or subject.patch) for cells in subject.grid)
        resized = replace(subject, grid=(h, w))
        ours = figures(resized.colour_affinity(kind).astype(np.float64))
        others = [
            figures(replace(resized, jitter=seed).colour_affinity(kind).astype(np.float64))
            for seed in (JITTERED if kind == "knn" else ())
        ]
        for figure, value in ours.items():
            if f"{name}.{figure}" not in golden.file:
                yield Case.missing(f"{golden.name} {name}.{figure}")
                continue
            compare, allowed = _relative_error, FIGURES
            if kind == "knn" and np.ndim(value):
                compare, allowed = _share_of_rows, ROWS_OF_TIES
            elif kind == "knn" and figure == "rowsum_sq":
                allowed = SQUARES_OF_TIES
            room = 2 * max((compare(value, other[figure]) for other in others), default=0.0)
            error = compare(value, golden.file[f"{name}.{figure}"])
            yield Case(f"{golden.name} {name}.{figure}", error, allowed + room)


def _share_of_rows(ours: np.ndarray, theirs: np.ndarray) -> float:
    if np.shape(ours) != np.shape(theirs):
        return float("inf")
    return float(np.mean(np.abs(ours - theirs) > FIGURES * np.abs(theirs).max()))


def _relative_error(ours: np.ndarray | float, theirs: np.ndarray) -> float:
    return largest_difference(ours, theirs) / max(float(np.abs(theirs).max()), 1.0)


def _features_matrix(golden: Golden, subject: Subject) -> Iterator[Case]:
    """Figures of the similarities, with and without those below 0."""
    similarities = _products(subject.unit)
    for name in ("lam0", "lam0_nothreshold"):
        if f"{name}.W_sum" not in golden.file:
            continue
        W = _relative(similarities if "nothreshold" in name else np.maximum(similarities, 0))
        ours = {"W_sum": W.sum(), "W_nonzero": (W != 0).sum(), "W_rowsum": W.sum(axis=1)[::25]}
        for figure, value in ours.items():
            if f"{name}.{figure}" not in golden.file:
                yield Case.missing(f"{golden.name} {name}.{figure}")
                continue
            error = _relative_error(value, golden.file[f"{name}.{figure}"])
            yield Case(f"{golden.name} {name}.{figure}", error, EIGENVALUES)


def figures(W) -> dict[str, np.ndarray | float]:
    """What the golden file keeps of a colour affinity."""
    probe = W @ np.cos(7 * np.arange(W.shape[0]) / W.shape[0])
    rows = np.asarray(W.sum(axis=1)).ravel()
    return {
        "nnz": W.nnz,
        "sum": W.sum(),
        "rowsum": rows[::25],
        "rowsum_sq": np.sum(rows**2),
        "diag_sum": W.diagonal().sum(),
        "asymmetry": abs(W - W.T).max(),
        "max": W.max(),
        "probe": probe[::25],
    }
