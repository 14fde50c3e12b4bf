"""Graphs whose normalised Laplacian spectrum is known in closed form.

Each function returns a `KnownGraph`: its affinity and every eigenvalue of (D - W) v = lambda D v.
Edge weights are 1.

References
----------
Chung, Spectral Graph Theory, 1997, section 1.2, for path, cycle, star and complete graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True, eq=False)
class KnownGraph:
    """An affinity W, csr_array (n, n) float64, and its eigenvalues (n,) float64, ascending."""

    W: sp.csr_array
    eigenvalues: np.ndarray


def _known(W: sp.sparray, eigenvalues: np.ndarray) -> KnownGraph:
    return KnownGraph(sp.csr_array(W, dtype=np.float64), np.sort(eigenvalues))


def _chain(n: int) -> sp.sparray:
    return sp.diags_array([np.ones(n - 1), np.ones(n - 1)], offsets=[-1, 1], shape=(n, n))


def path(n: int) -> KnownGraph:
    """n >= 2 nodes in a row: 1 - cos(pi j / (n - 1))."""
    return _known(_chain(n), 1 - np.cos(np.pi * np.arange(n) / (n - 1)))


def cycle(n: int) -> KnownGraph:
    """n >= 3 nodes in a ring: 1 - cos(2 pi j / n); all but one or two values are double."""
    ends = sp.coo_array(([1.0, 1.0], ([0, n - 1], [n - 1, 0])), shape=(n, n))
    return _known(_chain(n) + ends, 1 - np.cos(2 * np.pi * np.arange(n) / n))


def star(n: int) -> KnownGraph:
    """A centre, node 0, and n - 1 >= 1 leaves: 0, then 1 (n - 2 times), then 2."""
    leaves = np.arange(1, n)
    out = sp.coo_array((np.ones(n - 1), (np.zeros(n - 1, int), leaves)), shape=(n, n))
    return _known(out + out.T, np.r_[0, np.ones(n - 2), 2])


def complete(n: int) -> KnownGraph:
    """n >= 2 nodes, all joined: 0, then n / (n - 1) for the rest."""
    return _known(np.ones((n, n)) - np.eye(n), np.r_[0, np.full(n - 1, n / (n - 1))])


def grid(height: int, width: int) -> KnownGraph:
    """Nodes of a (height, width) grid, row-major, with self-loops where the frame cuts an edge.

    So every degree is 4, and the eigenvectors are products of cosines:
    1 - (cos(pi i / height) + cos(pi j / width)) / 2.
    """
    vertical, horizontal = _reflecting(height), _reflecting(width)
    W = sp.kron(vertical, sp.eye_array(width)) + sp.kron(sp.eye_array(height), horizontal)
    rows = np.cos(np.pi * np.arange(height) / height)
    columns = np.cos(np.pi * np.arange(width) / width)
    return _known(W, (1 - (rows[:, None] + columns) / 2).ravel())


def _reflecting(n: int) -> sp.sparray:
    loops = np.zeros(n)
    loops[0] += 1
    loops[-1] += 1
    return _chain(n) + sp.diags_array(loops) if n > 1 else sp.diags_array(loops)


def barbell(n: int) -> KnownGraph:
    """Two complete graphs of n >= 3 nodes joined by an edge between nodes n - 1 and n.

    n / (n - 1) for vectors that sum to zero over the nodes next to the bridge (2 (n - 2) times);
    the other four belong to the walks between a bridge node and the rest of its side, which agree
    or are opposite on the two sides.
    """
    bridge = sp.coo_array(([1.0, 1.0], ([n - 1, n], [n, n - 1])), shape=(2 * n, 2 * n))
    W = sp.block_diag([complete(n).W, complete(n).W]) + bridge
    inside = np.full(2 * (n - 2), n / (n - 1))
    stay = (n - 2) / (n - 1)
    agreeing = [0, 2 - 1 / n - stay]  # the walk has 1 and trace - 1
    trace, determinant = stay - 1 / n, -stay / n - 1 / n
    root = np.sqrt(trace**2 - 4 * determinant)
    opposite = [1 - (trace + root) / 2, 1 - (trace - root) / 2]
    return _known(W, np.r_[inside, agreeing, opposite])


def components(*parts: KnownGraph) -> KnownGraph:
    """The disjoint union of the parts: all their eigenvalues, with 0 once per part."""
    W = sp.block_diag([part.W for part in parts])
    return _known(W, np.concatenate([part.eigenvalues for part in parts]))


def cliques(count: int, n: int) -> KnownGraph:
    """`count` complete graphs of n nodes, not joined."""
    return components(*[complete(n)] * count)
