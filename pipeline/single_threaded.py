"""Hold the numerical libraries to one thread: parallelism is over images."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Hold BLAS, OpenMP and OpenCV, and torch if it is used, to one thread in this process."""
    import cv2
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    opencv_threads, torch_threads = cv2.getNumThreads(), torch and torch.get_num_threads()
    try:
        cv2.setNumThreads(1)
        if torch:
            torch.set_num_threads(1)
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(opencv_threads)
        if torch:
            torch.set_num_threads(torch_threads)


_for_life = contextlib.ExitStack()


@functools.cache
def hold_for_life() -> None:
    """As `single_threaded`, until this process ends; for worker processes."""
    # Read when a library is first loaded, which for torch may be in the middle of the first task.
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    # What was loaded before is held as long as the process lives.
    _for_life.enter_context(single_threaded())
