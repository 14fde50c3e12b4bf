"""Many dense patch graphs at once: features in, certified eigenpairs out.

Images of several sizes are stacked for `eigen.solvers.batched`. An image that misses the tolerance
there goes through the solvers of `eigen.solvers.solve`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from data.errors import GraphError
from eigen.graphs import cosine
from eigen.solvers.batched import LOOKS, Stack, full_precision, krylov
from eigen.solvers.canonical import canonical_vectors
from eigen.solvers.krylov import LEAST_BASIS
from eigen.solvers.solution import ConvergenceError, Solution, measured, unit_vectors
from eigen.solvers.solve import DENSE_NODES, solve
from eigen.solvers.spec import SolveSpec

# Share of a GPU's free memory that one stack may take.
MEMORY_PART = 0.4

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
            stack = Stack.of([tensors[i] for i in members])
            solved.update(zip(members, _solve_stack(stack, spec), strict=True))
    return [
        _alone(x, spec)
        if (solution := solved.get(i)) is None
        else (solution.without_first() if spec.drop_trivial else solution)
        for i, x in enumerate(tensors)
    ]


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


def _solve_stack(stack: Stack, spec: SolveSpec) -> list[Solution | None]:
    """Certified solutions; None where this method does not reach the tolerance."""
    k = spec.k + spec.drop_trivial
    candidates = krylov(stack, k, spec.tolerance, spec.seed)
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
