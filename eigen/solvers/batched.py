"""Block Lanczos with torch, for a stack of dense patch graphs at once.

As in `eigen.solvers.krylov`, but without restarts. Products and orthogonalisation run in float32
on the device, the small Rayleigh-Ritz problems on the CPU in float64, residuals on the device in
float64. An image has no result if it misses the tolerance, if its Krylov space is exhausted (an
image of one colour) or if its eigenvalues repeat as often as the block is wide.

Images of several sizes are padded with nodes of degree 0, which stay 0 in every product. On a GPU
an image's result varies with the padding by rounding (about 1e-7). On the CPU each image is
computed alone, so its result does not depend on the batch.

`torch.lobpcg` is not used (wrong for some starts: pytorch#101075), nor batched `eigh` on the GPU
(a hundred times slower than elsewhere: pytorch#174674).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from eigen.solvers.krylov import LEAST_BASIS, fills_block
from eigen.solvers.problem import NormalizedProblem

BLOCK = 4
# Sizes of the basis at which convergence is checked: steps are cheap, checks are not.
LOOKS = (41, 65, 97)
Pairs = tuple[np.ndarray, np.ndarray]


def batched(
    problem: NormalizedProblem,
    k: int,
    *,
    tolerance: float,
    seed: int,
    start: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest pairs of L_sym of one dense graph, by the same computation on the CPU.

    `start` is not used.

    Raises
    ------
    numpy.linalg.LinAlgError
        The Krylov space was exhausted, or the pairs did not converge.
    """
    W = torch.from_numpy(problem.whole_affinity().astype(np.float32, copy=False))
    with full_precision():
        pairs = krylov(Stack(W[None], (problem.n,)), k, tolerance, seed)[0]
    if pairs is None:
        raise np.linalg.LinAlgError(f"no convergence within {LOOKS[-1]} products")
    return pairs


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Float32 products in float32: TF32 keeps 10 bits, and residuals stop at 1e-3."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@dataclass(frozen=True)
class Stack:
    """Affinities (B, n, n) float32, padded with zeros; `sizes` are the node counts of each."""

    W: torch.Tensor
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, features: Sequence[torch.Tensor]) -> Stack:
        X = torch.nn.utils.rnn.pad_sequence(list(features), batch_first=True).float()
        return cls(torch.bmm(X, X.mT).clamp_(min=0), tuple(len(x) for x in features))

    @functools.cached_property
    def sqrt_degree(self) -> torch.Tensor:
        """(B, n) float64; 0 for padding."""
        return self.W.sum(dim=2, dtype=torch.float64).sqrt()

    @functools.cached_property
    def scale(self) -> torch.Tensor:
        """degree^-1/2, (B, n, 1) float64; 0 for padding."""
        return torch.where(self.sqrt_degree > 0, 1 / self.sqrt_degree, 0)[..., None]

    def similarity(self, vectors: torch.Tensor) -> torch.Tensor:
        """S @ vectors, (B, n, m), in the dtype of `vectors`."""
        scale = self.scale.to(vectors.dtype)
        # W from the right gives the same: a CPU multiplies a thin matrix three times faster so.
        return scale * ((scale * vectors).mT @ self.W.to(vectors.dtype)).mT


def krylov(stack: Stack, k: int, tolerance: float, seed: int) -> list[Pairs | None]:
    """Pairs of each graph, u (n_i, k) float32; None where they did not converge."""
    count, n = stack.W.shape[:2]
    basis = stack.W.new_zeros(count, n, LOOKS[-1])
    basis[:, :, 0] = stack.sqrt_degree / stack.sqrt_degree.norm(dim=1, keepdim=True)
    projected = stack.W.new_zeros(count, LOOKS[-1], LOOKS[-1])
    projected[:, 0, 0] = 1
    converged: list[Pairs | None] = [None] * count
    open_: set[int] = set(range(count))
    residual = _first_blocks(stack, seed)
    for start in range(1, LOOKS[-1], BLOCK):
        size = start + BLOCK
        basis[:, :, start:size] = new = _orthonormal(basis[:, :, :start], residual)
        span, product = basis[:, :, :size], stack.similarity(new)
        columns = span.mT @ product
        residual = product - span @ columns
        projected[:, :size, start:size] = columns
        projected[:, start:size, :size] = columns.mT
        if size in LOOKS and size >= LEAST_BASIS * k:
            checked = dict(
                _check(projected[:, :size, :size], residual, sorted(open_), k, tolerance)
            )
            open_ -= checked.keys()
            ritz = {i: pairs for i, pairs in checked.items() if pairs is not None}
            for i, u in zip(ritz, _combined(span, ritz), strict=True):
                converged[i] = 1 - ritz[i][0], u[: stack.sizes[i]]
        if not open_:
            break
    return converged


def _combined(span: torch.Tensor, ritz: Mapping[int, Pairs]) -> np.ndarray:
    """Ritz vectors (m, n, k) of some members, moved to the CPU in one transfer."""
    if not ritz:
        return np.empty((0, span.shape[1], 0), np.float32)
    y = torch.from_numpy(np.stack([y for _, y in ritz.values()]))
    return (span[list(ritz)] @ y.to(span)).cpu().numpy()


def _first_blocks(stack: Stack, seed: int) -> torch.Tensor:
    blocks = torch.zeros(len(stack.sizes), stack.W.shape[1], BLOCK)
    for block, n in zip(blocks, stack.sizes, strict=True):
        draw = np.random.default_rng([seed, n]).standard_normal((n, BLOCK))
        block[:n] = torch.from_numpy(draw)
    return blocks.to(stack.W.device)


def _orthonormal(span: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """`new` (B, n, b) made orthonormal, and orthogonal to `span`; NaN where it is not new."""
    for _ in range(2):
        new = new - span @ (span.mT @ new)
        # Cholesky QR: the second pass restores the orthogonality that it loses.
        lower, failed = torch.linalg.cholesky_ex(new.mT @ new)
        lower = torch.where(failed[:, None, None] > 0, torch.nan, lower)
        new = torch.linalg.solve_triangular(lower, new.mT, upper=False).mT
    return new


def _check(
    projected: torch.Tensor, residual: torch.Tensor, members: list[int], k: int, tolerance: float
) -> Iterator[tuple[int, Pairs | None]]:
    """Members that need no more steps, with k Ritz pairs, or None where this method fails."""
    gram = (residual.mT @ residual).double().cpu().numpy()
    h = projected.double().cpu().numpy()
    finite = np.isfinite(h).all(axis=(1, 2)) & np.isfinite(gram).all(axis=(1, 2))
    yield from ((i, None) for i in members if not finite[i])
    members = [i for i in members if finite[i]]
    theta, y = np.linalg.eigh((h[members] + h[members].transpose(0, 2, 1)) / 2)
    theta, y = theta[:, : -k - 1 : -1], y[:, :, : -k - 1 : -1]
    last = y[:, -BLOCK:]
    squares = np.einsum("ibk,ibc,ick->ik", last, gram[members], last)
    converged = np.sqrt(np.maximum(squares, 0)).max(axis=1) <= tolerance / 2
    for i, values, vectors in zip(
        np.array(members)[converged], theta[converged], y[converged], strict=True
    ):
        yield i, None if fills_block(values, BLOCK, tolerance) else (values, vectors)
