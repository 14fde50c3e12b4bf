"""A dask scheduler and its workers as processes of their own: lost workers, lost schedulers."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from PIL import Image

from data.errors import RunError
from pipeline import provenance
from pipeline.dask_cluster import _on_worker
from pipeline.workers import run_ordered
from tests.pictures import scene
from tests.pipeline.test_stages import Run

pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of distributed: ports, unawaited closings
DASK = [sys.executable, "-c", "import sys; from dask.__main__ import main; sys.exit(main())"]


@contextmanager
def process(*words, **more):
    """A child that is ended with its whole group."""
    child = subprocess.Popen(words, start_new_session=True, **more)
    try:
        yield child
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if child.stdout:
            child.stdout.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def scheduler():
    address = f"tcp://127.0.0.1:{free_port()}"
    words = [*DASK, "scheduler", "--no-dashboard", "--host", address]
    with process(*words, stderr=subprocess.DEVNULL) as child:
        yield address, child


def worker(address):
    words = [*DASK, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    return process(*words, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(60):
        Image.fromarray(scene(160, 160, number)).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def serial(photos, tmp_path_factory):
    run = Run(photos, tmp_path_factory.mktemp("serial"))
    run.make()
    return run.path("shard", "eigenvectors", 0).read_bytes()


@contextmanager
def shard_command(photos, root, address):
    """The command of a cluster's job, once its manifest is made."""
    run = Run(photos, root)
    run.listing()
    words = [sys.executable, "-m", "pipeline", "fused", "--dataset", "folder", "--shard", "0"]
    settings = ["--results-root", root, "--extractor", "lowlevel"]
    words += ["--scheduler", address, *map(str, settings)]
    with process(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        yield child, run.path("shard", "eigenvectors", 0)


def wait_until_computing(address, *, results):
    """Until the workers have computed some results of a run that is still going on."""
    from distributed import Client

    with Client(address, timeout=60, set_as_default=False) as client:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            done = client.run_on_scheduler(
                lambda dask_scheduler: sum(
                    prefix.state_counts["memory"] + prefix.state_counts["released"]
                    for prefix in dask_scheduler.task_prefixes.values()
                )
            )
            if done >= results:
                return
            time.sleep(0.01)
    pytest.fail("the workers computed nothing")


def one_line(child):
    output, _ = child.communicate(timeout=120)
    assert child.returncode == 1, output
    errors = [line for line in output.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and "Traceback" not in output, output
    return errors[0]


def test_a_killed_worker_changes_no_byte(photos, serial, tmp_path):
    with scheduler() as (address, _), worker(address) as killed, worker(address):
        with shard_command(photos, tmp_path, address) as (child, made):
            wait_until_computing(address, results=3)
            assert child.poll() is None and not made.exists(), "the run ended before the kill"
            killed.send_signal(signal.SIGKILL)
            output, _ = child.communicate(timeout=120)
        assert child.returncode == 0, output
        assert made.read_bytes() == serial


def test_a_run_without_any_worker_left_ends_with_one_line(photos, tmp_path):
    with (
        scheduler() as (address, _),
        worker(address) as first,
        worker(address) as second,
        shard_command(photos, tmp_path, address) as (child, made),
    ):
        wait_until_computing(address, results=3)
        first.send_signal(signal.SIGKILL)
        second.send_signal(signal.SIGKILL)
        started = time.monotonic()
        assert "has lost all its workers" in (line := one_line(child)) and address in line
        assert time.monotonic() - started < 60  # 12 s; the bound is for a busy machine
        assert not made.exists()


def test_a_lost_scheduler_ends_the_run_with_one_line(photos, tmp_path):
    with (
        scheduler() as (address, head),
        worker(address),
        shard_command(photos, tmp_path, address) as (child, made),
    ):
        wait_until_computing(address, results=3)
        os.killpg(head.pid, signal.SIGKILL)
        assert "connection was lost" in one_line(child)
        assert not made.exists()


def test_an_address_where_no_scheduler_answers_is_one_line(photos, tmp_path):
    address = f"tcp://127.0.0.1:{free_port()}"
    with shard_command(photos, tmp_path, address) as (child, _):
        assert f"scheduler {address}: no dask scheduler answers" in one_line(child)


@pytest.mark.parametrize("address", ["nowhere", "udp//x", "tcp://x:", "tcp://x:y", "http://x:1"])
def test_what_is_no_address_is_refused_at_once(address):
    with pytest.raises(RunError, match=f"scheduler {address}: not an address; expected one like"):
        list(run_ordered(abs, [1], scheduler=address))


def test_a_cluster_that_cannot_import_the_software_is_one_line(photos, tmp_path, monkeypatch):
    (tmp_path / "broken" / "pipeline").mkdir(parents=True)
    (tmp_path / "broken/pipeline/__init__.py").write_text("raise ImportError('not here')")
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("PYTHONPATH", str(tmp_path / "broken"))
        elsewhere.chdir(tmp_path / "broken")
        head, hand = scheduler(), None
        address, _ = head.__enter__()
        hand = worker(address)
        hand.__enter__()
    try:
        with shard_command(photos, tmp_path, address) as (child, made):
            assert "cannot import this software" in (line := one_line(child)) and address in line
            assert not made.exists()
    finally:
        hand.__exit__(None, None, None)
        head.__exit__(None, None, None)


def test_a_worker_of_another_version_is_refused():
    assert _on_worker(provenance.software(), abs, -1) == 1
    with pytest.raises(RunError, match=r"a dask worker runs eigenshape .*, this is 0\.0\.1; start"):
        _on_worker("0.0.1", abs, -1)


def test_a_scheduler_without_workers_is_one_line(photos, tmp_path):
    with scheduler() as (address, _), shard_command(photos, tmp_path, address) as (child, _):
        assert "has no workers" in one_line(child)
