"""The closed forms are the spectra of their matrices."""

import numpy as np
import pytest

from eigen.solvers import gallery

GRAPHS = {
    "path": gallery.path(2),
    "path_long": gallery.path(31),
    "cycle": gallery.cycle(3),
    "cycle_even": gallery.cycle(24),
    "star": gallery.star(2),
    "star_large": gallery.star(17),
    "complete": gallery.complete(9),
    "grid": gallery.grid(7, 5),
    "grid_square": gallery.grid(6, 6),
    "strip": gallery.grid(1, 8),
    "barbell": gallery.barbell(3),
    "barbell_large": gallery.barbell(12),
    "cliques": gallery.cliques(4, 5),
    "mixed": gallery.components(gallery.path(6), gallery.star(5), gallery.cycle(7)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_closed_form_is_the_spectrum(name):
    graph = GRAPHS[name]
    W = graph.W.toarray()
    assert np.array_equal(W, W.T)
    scale = 1 / np.sqrt(W.sum(axis=1))
    found = np.linalg.eigvalsh(np.eye(len(W)) - W * scale[:, None] * scale)
    np.testing.assert_allclose(found, graph.eigenvalues, atol=1e-12)
