"""One pool of BLAS threads while a graph is built and solved.

The wheels of NumPy and SciPy each bring an OpenBLAS, whose threads spin while they wait. Where the
products of a solver come from one and its small algebra from the other, the two pools take the
cores from each other: on two cores a patch graph took 1.5 to 4 times as long as with one pool. So
SciPy's pool, which runs the symmetric products, keeps its threads, and NumPy's is limited to one. A
single BLAS for both (conda, MKL) is left alone.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from threadpoolctl import ThreadpoolController


@functools.cache
def _pools() -> tuple[ThreadpoolController, ThreadpoolController]:
    """(NumPy's own BLAS, SciPy's own BLAS); both empty where they share one."""
    import scipy.linalg.blas  # noqa: F401  its BLAS is listed only once it is loaded

    controller = ThreadpoolController()
    paths = {
        owner: [lib["filepath"] for lib in controller.info() if f"{owner}.libs" in lib["filepath"]]
        for owner in ("numpy", "scipy")
    }
    return controller.select(filepath=paths["numpy"]), controller.select(filepath=paths["scipy"])


@contextlib.contextmanager
def one_pool() -> Iterator[None]:
    """Limit NumPy's BLAS to one thread, where it is not SciPy's too."""
    numpy_pool, scipy_pool = _pools()
    if not scipy_pool.info():
        yield
        return
    with numpy_pool.limit(limits=1):
        yield


def blas_threads() -> int:
    """Threads that SciPy's BLAS may use now; 1 where it cannot be queried."""
    return max((lib["num_threads"] for lib in _pools()[1].info()), default=1)
