"""Many dense patch graphs at once with torch: features in, certified eigenpairs out.

Block Lanczos as in `eigen.solvers.lanczos`, for a stack of graphs and without restarts. Products
and orthogonalisation run in float32 on the device, the small Rayleigh-Ritz problems on the CPU in
float64, residuals on the device in float64. An image that misses the tolerance goes to the solvers
of `eigen.solvers.solve`; so does one whose Krylov space is exhausted (an image of one colour) or
whose eigenvalues repeat as often as the block is wide.

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

from data.errors import GraphError
from eigen.graphs import cosine
from eigen.solvers.canonical import canonical_vectors
from eigen.solvers.lanczos import LEAST_BASIS, fills_block
from eigen.solvers.problem import NormalizedProblem
from eigen.solvers.solution import ConvergenceError, Solution, measured, unit_vectors
from eigen.solvers.solve import DENSE_NODES, solve
from eigen.solvers.spec import SolveSpec

BLOCK = 4
# Sizes of the basis at which convergence is checked: steps are cheap, checks are not.
LOOKS = (41, 65, 97)
# Share of a GPU's free memory that one stack may take.
MEMORY_PART = 0.4

Pairs = tuple[np.ndarray, np.ndarray]
Failure = GraphError | ConvergenceError


def solve_batch(
    features: Sequence[np.ndarray | torch.Tensor],
    spec: SolveSpec,
    *,
    device: str | torch.device = "cpu",
) -> list[Solution | Failure]:
    """Eigenpairs of the dense patch graphs, W = max(X X^T, 0), of many images.

    Parameters
    ----------
    features : sequence of arrays or tensors, shape (n_i, d), float32, unit rows
        Tensors already on `device` are not copied.
    spec : SolveSpec
        With `solver` "auto", an image on which this method fails goes through the usual chain.
    device : str or torch.device

    Returns
    -------
    list of Solution or exception
        In the order given. An image that cannot be solved has its `GraphError` or
        `ConvergenceError` in its place, so that it does not stop the others.
    """
    device = torch.device(device)
    tensors = [torch.as_tensor(x, device=device) for x in features]
    stacked = _fitting(tensors, spec.k)
    solved: dict[int, Solution | None] = {}
    with full_precision():
        for members in _stacks({i: len(tensors[i]) for i in stacked}, device):
            stack = _Stack.of([tensors[i] for i in members])
            solved.update(zip(members, _solve_stack(stack, spec), strict=True))
    return [
        _alone(x, spec)
        if (solution := solved.get(i)) is None
        else (solution.without_first() if spec.drop_trivial else solution)
        for i, x in enumerate(tensors)
    ]


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
        pairs = _krylov(_Stack(W[None], (problem.n,)), k, tolerance, seed)[0]
    if pairs is None:
        raise np.linalg.LinAlgError(f"no convergence within {LOOKS[-1]} products")
    return pairs


def _fitting(tensors: Sequence[torch.Tensor], k: int) -> list[int]:
    """Indices of the images that may be stacked: large enough, few pairs, unit rows."""
    if LEAST_BASIS * (k + 1) > LOOKS[-1]:
        return []
    large = [i for i, x in enumerate(tensors) if x.ndim == 2 and len(x) > DENSE_NODES]
    lengths = (torch.linalg.vector_norm(tensors[i], dim=1) for i in large)
    unit = [((length - 1).abs() <= cosine.UNIT_TOLERANCE).all() for length in lengths]
    # Transferred at once: each transfer waits for the device.
    fits = torch.stack(unit).tolist() if unit else []
    return [i for i, unit_rows in zip(large, fits, strict=True) if unit_rows]


def _alone(features: torch.Tensor, spec: SolveSpec) -> Solution | Failure:
    """The solution of one image by the chain of `eigen.solvers.solve`, or its error."""
    try:
        W = cosine.dense(features.cpu().numpy())
        return solve(W, spec, check=False)
    except (GraphError, ConvergenceError) as error:
        return error


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Float32 products in float32: TF32 keeps 10 bits, and residuals stop at 1e-3."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _stacks(sizes: Mapping[int, int], device: torch.device) -> list[list[int]]:
    """Indices of the images of each stack, similar sizes together, one per stack on the CPU."""
    if device.type == "cpu":
        return [[i] for i in sizes]
    budget = MEMORY_PART * torch.cuda.mem_get_info(device)[0]
    stacks: list[list[int]] = []
    for i in sorted(sizes, key=lambda i: -sizes[i]):
        # Members are padded to the first, the largest; 12 bytes are W in float32 and in float64.
        if stacks and (len(stacks[-1]) + 1) * 12 * sizes[stacks[-1][0]] ** 2 <= budget:
            stacks[-1].append(i)
        else:
            stacks.append([i])
    return stacks


@dataclass(frozen=True)
class _Stack:
    """Affinities (B, n, n) float32, padded with zeros; `sizes` are the node counts of each."""

    W: torch.Tensor
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, features: Sequence[torch.Tensor]) -> _Stack:
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


def _solve_stack(stack: _Stack, spec: SolveSpec) -> list[Solution | None]:
    """Certified solutions; None where this method does not reach the tolerance."""
    k = spec.k + spec.drop_trivial
    candidates = _krylov(stack, k, spec.tolerance, spec.seed)
    roots = [root[:n] for root, n in zip(stack.sqrt_degree.cpu().numpy(), stack.sizes, strict=True)]
    vectors = {
        i: canonical_vectors(*pairs, roots[i], seed=spec.seed, dtype=np.float32)
        for i, pairs in enumerate(candidates)
        if pairs is not None
    }
    u = np.zeros((len(candidates), stack.W.shape[1], k))
    for i, v in vectors.items():
        u[i, : stack.sizes[i]] = unit_vectors(v, roots[i])
    product = stack.similarity(torch.from_numpy(u).to(stack.W.device)).cpu().numpy()
    solutions: list[Solution | None] = [None] * len(candidates)
    for i, v in vectors.items():
        n = stack.sizes[i]
        solution = measured("batched", v, u[i, :n], product[i, :n])
        if np.all(solution.residual <= spec.tolerance):
            solutions[i] = solution
    return solutions


def _krylov(stack: _Stack, k: int, tolerance: float, seed: int) -> list[Pairs | None]:
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


def _first_blocks(stack: _Stack, seed: int) -> torch.Tensor:
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
