"""Tasks in this process, in several, or on a cluster: the same results in the same order."""

import os
import signal
import subprocess
import sys

import pytest

from data.errors import RunError
from pipeline.single_threaded import single_threaded
from pipeline.workers import run_ordered


def square(number):
    return number * number


def fail_at_three(number):
    if number == 3:
        raise ZeroDivisionError("three")
    return number


def die_at_three(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def threads(_):
    import cv2
    import torch
    from threadpoolctl import threadpool_info

    pools = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    return pools | {torch.get_num_threads(), cv2.getNumThreads()}


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(workers):
    assert list(run_ordered(square, range(30), workers=workers)) == [n * n for n in range(30)]


def test_an_error_of_a_task_ends_the_run():
    with pytest.raises(ZeroDivisionError, match="three"):
        list(run_ordered(fail_at_three, range(9), workers=2))


def test_a_killed_worker_is_reported():
    with pytest.raises(RunError, match="memory"):
        list(run_ordered(die_at_three, range(9), workers=2))


def test_a_worker_computes_with_one_thread():
    assert list(run_ordered(threads, range(2), workers=2)) == [{1}, {1}]


def test_a_worker_that_had_loaded_numpy_before_computes_with_one_thread():
    program = (
        "import gc, numpy; from pipeline.single_threaded import hold_for_life; hold_for_life(); "
        "gc.collect(); from threadpoolctl import threadpool_info; "
        "print({pool['num_threads'] for pool in threadpool_info()})"
    )
    several = {name: value for name, value in os.environ.items() if "THREADS" not in name}
    run = [sys.executable, "-c", program]
    assert subprocess.run(run, env=several, check=True, capture_output=True).stdout == b"{1}\n"


def test_items_are_taken_as_results_are_used():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    results = run_ordered(square, items(), workers=2)
    for _ in range(5):
        next(results)
    assert len(taken) < 20
    results.close()


def test_blas_threads_are_given_back():
    from threadpoolctl import threadpool_info

    before = [pool["num_threads"] for pool in threadpool_info()]
    with single_threaded():
        pass
    assert [pool["num_threads"] for pool in threadpool_info()] == before


@pytest.mark.filterwarnings("ignore")  # distributed warns about ports and unawaited closings
def test_a_dask_scheduler_gives_the_same():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        results = list(run_ordered(square, range(10), scheduler=cluster.scheduler_address))
    assert results == [n * n for n in range(10)]


@pytest.mark.parametrize("where", ["inside", "in a task"])
def test_thread_limits_end_with_an_error_too(where):
    import cv2
    import torch

    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(3)
    torch.set_num_threads(3)
    try:
        with pytest.raises(ZeroDivisionError):
            if where == "inside":
                with single_threaded():
                    raise ZeroDivisionError
            list(run_ordered(fail_at_three, [3]))
        assert (cv2.getNumThreads(), torch.get_num_threads()) == (3, 3)
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])
