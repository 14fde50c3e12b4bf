"""One pool of threads while a graph is built and solved.

The wheels of NumPy and SciPy bring an OpenBLAS each, whose threads wait spinning, and OpenCV has
threads of its own. Where the products of a solver come from one and its small algebra from another,
the pools take the cores from each other: on two cores a patch graph took one and a half to four
times as long as it should. So SciPy's pool, which has the symmetric products, keeps its threads,
and the others are held to one. A single BLAS for NumPy and SciPy (conda, MKL) is left alone.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator

import cv2
from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_holders = 0
_release: contextlib.ExitStack = contextlib.ExitStack()


@functools.cache
def _pools() -> tuple[ThreadpoolController, ThreadpoolController]:
    """(NumPy's own BLAS, SciPy's own BLAS); both empty where they share one."""
    import scipy.linalg.blas  # noqa: F401  its BLAS is found only once it is loaded

    found = ThreadpoolController()
    paths = {
        owner: [lib["filepath"] for lib in found.info() if f"{owner}.libs" in lib["filepath"]]
        for owner in ("numpy", "scipy")
    }
    return found.select(filepath=paths["numpy"]), found.select(filepath=paths["scipy"])


@contextlib.contextmanager
def one_pool() -> Iterator[None]:
    """Hold NumPy's BLAS and OpenCV to one thread while any thread of this process is inside."""
    global _holders
    numpy_pool, scipy_pool = _pools()
    with _lock:
        _holders += 1
        if _holders == 1:
            _release.callback(cv2.setNumThreads, cv2.getNumThreads())
            cv2.setNumThreads(1)
            if scipy_pool.info():
                _release.enter_context(numpy_pool.limit(limits=1))
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _release.close()


def blas_threads() -> int:
    """Threads that SciPy's BLAS may use now; 1 where it cannot be asked."""
    return max((lib["num_threads"] for lib in _pools()[1].info()), default=1)
