"""One command starts one process per GPU; here processes on the CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from data.errors import SettingError
from tests.train.sazs import test_train as sazs_tests
from train import checkpoint, distributed, history, launch
from train.distributed import OTHERS_ENDED

world = sazs_tests.world
JOB = Path(__file__).with_name("parallel_train.py")
ROOT = JOB.parents[3]
pytestmark = pytest.mark.timeout(600)  # torch takes seconds to start on a busy machine


def start(world: Path, out: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    command = [
        sys.executable, str(JOB), "train", "--arch", "tiny", "--crop-size", "32",
        "--batch_size", "4", "--epochs", "2", "--lr", "0.05", "--workers", "0",
        "--input-side", "64", "--device", "cpu", "--overlap", "1", "--absent", "0.1",
        *sazs_tests.arguments(world, out), *words,
    ]  # fmt: skip
    paths = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command,
        env=os.environ | paths | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(job: subprocess.Popen[str], code: int = 0) -> str:
    _, errors = job.communicate(timeout=300)
    assert job.returncode == code, errors[-3000:]
    return errors


@pytest.fixture(scope="module")
def one(world, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("one")
    ended(start(world, out))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_the_loss_curve_is_that_of_one_process_at_the_same_batch_size(
    world, one, tmp_path, processes
):
    errors = ended(start(world, tmp_path, "--processes", str(processes)))
    assert errors.count(" samples, ") == 1  # the log of the first process alone
    expected, found = (history.read(out) for out in (one, tmp_path))
    assert len(found) == len(expected) > 10
    for name in ("seg", "edge", "attention", "overlap", "absent", "total", "lr"):
        curve, other = ([row[name] for row in rows if name in row] for rows in (expected, found))
        np.testing.assert_allclose(other, curve, rtol=2e-3, atol=1e-5, err_msg=name)
    weights = [load_file(out / checkpoint.FINAL) for out in (one, tmp_path)]
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, atol=1e-3, rtol=1e-3)


def lines_of(errors: str) -> list[str]:
    """Lines but those of the log, which start with the date."""
    return [line for line in errors.splitlines() if not line.startswith("20")]


@pytest.mark.slow
def test_a_killed_process_ends_the_run_in_one_line_and_it_resumes(world, one, tmp_path):
    words = ["--processes", "2", "--save-every", "1"]
    errors = ended(start(world, tmp_path, *words, DIE_RANK="1", DIE_STEP="5"), 1)
    (line,) = lines_of(errors)
    assert line.startswith("Error: process 1 of 2 was killed by SIGKILL") and "resumes it" in line
    assert len(history.read(tmp_path)) == 5
    assert "resuming from" in ended(start(world, tmp_path, *words))
    assert len(history.read(tmp_path)) == len(history.read(one))


@pytest.mark.slow
def test_an_error_of_all_processes_is_one_line(world, tmp_path):
    output = ended(start(world, tmp_path, "--processes", "3", "--eig_dir", "x"), 1)
    note, line = lines_of(output)
    assert note.startswith("--eig_dir has no effect")
    assert line.startswith("Error: --batch_size 4: expected a multiple of the 3 processes")


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ({0: (1, "no such folder"), 1: (-15, "")}, "no such folder"),
        ({0: (1, f"stopped, {OTHERS_ENDED}"), 1: (-9, "")}, "process 1 of 3 was killed by SIGKILL"),
        (
            {0: (1, f"stopped, {OTHERS_ENDED}"), 2: (-15, "")},
            "process 2 of 3 was killed by SIGTERM",
        ),
        ({0: (-15, ""), 1: (-9, ""), 2: (-15, "")}, "process 1 of 3 was killed by SIGKILL"),
        ({0: (1, f"stopped, {OTHERS_ENDED}"), 1: (1, "disk full")}, "disk full"),
    ],
)
def test_what_ended_first_is_told(monkeypatch, tmp_path, ends, expected):
    failures = {}
    for rank, (code, message) in ends.items():
        file = tmp_path / f"{rank}.json"
        if message:
            monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
            launch.hand_on(message)
        failures[rank] = ProcessFailure(rank, 100 + rank, code, str(file))
    assert launch._first_cause(failures, 3, "resume").startswith(expected)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_processes_end_with_their_launcher(world, tmp_path, number):
    job = start(world, tmp_path, "--processes", "2", "--epochs", "1000", "--save-every", "1")
    deadline = time.monotonic() + 200
    while not (tmp_path / checkpoint.LATEST).is_file():
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    children = psutil.Process(job.pid).children(recursive=True)
    assert len(children) >= 2
    job.send_signal(number)
    _, errors = job.communicate(timeout=60)
    assert not psutil.wait_procs(children, timeout=20)[1]
    if number == signal.SIGTERM:
        (line,) = lines_of(errors)
        assert (
            line == "Error: SIGTERM: all processes of the run were stopped; the same command "
            "resumes it"
        )


@pytest.mark.parametrize(
    ("wanted", "device", "gpus", "expected"),
    [
        (None, "auto", 4, 4), (None, "cuda", 4, 4), (None, "auto", 0, 1), (None, "cpu", 4, 1),
        (None, "cuda:1", 4, 1), (2, "cuda", 4, 2), (3, "cpu", 0, 3), (2, "auto", 0, 2),
    ],
)  # fmt: skip
def test_one_process_for_each_visible_gpu(monkeypatch, wanted, device, gpus, expected):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert launch.processes(wanted, device, batch=8) == expected
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert launch.processes(wanted, device, batch=8) == 1


@pytest.mark.parametrize(
    ("batch", "gpus", "expected"), [(6, 4, 3), (5, 4, 1), (6, 8, 6), (1, 2, 1), (12, 4, 4)]
)
def test_as_many_gpus_as_divide_the_batch(monkeypatch, caplog, batch, gpus, expected):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert launch.processes(None, "auto", batch=batch) == expected
    assert (f"{expected} of {gpus} GPUs are used" in caplog.text) == (expected < gpus)


@pytest.mark.parametrize(("wanted", "device"), [(5, "cuda"), (5, "auto"), (2, "cuda:0")])
def test_more_processes_than_gpus_are_refused(monkeypatch, wanted, device):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(SettingError, match=f"--processes {wanted}: expected at most one per GPU"):
        launch.processes(wanted, device, batch=10)


def test_a_batch_is_split_evenly_or_refused():
    world = distributed.World(0, 4, torch.device("cpu"))
    assert world.share(12) == 3
    with pytest.raises(SettingError, match=r"multiple of the 4 processes.*take 8"):
        world.share(6)
