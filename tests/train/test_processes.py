"""Training on several CPU processes: the steps of one process, and the end of all when one ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from train import checkpoint

JOB = Path(__file__).with_name("parallel_job.py")
ROOT = JOB.parents[2]
STEPS = 12
# A process of torch takes seconds to start on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def launch(out: Path, processes: int, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += [str(JOB), str(out), str(STEPS), *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def train(out: Path, processes: int) -> None:
    job = launch(out, processes)
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 0, errors[-3000:]


def losses(out: Path, processes: int) -> np.ndarray:
    """Mean over the processes of the loss of each step, the last written where it was redone."""
    rows = [
        dict(map(json.loads, (out / f"loss_{rank}.jsonl").read_text().splitlines()))
        for rank in range(processes)
    ]
    return np.array([[row[step] for step in range(STEPS)] for row in rows]).mean(axis=0)


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("one")
    train(out, 1)
    return out


@pytest.mark.parametrize("processes", [2, 4])
def test_the_loss_curve_is_that_of_one_process_at_equal_global_batch(one, tmp_path, processes):
    train(tmp_path, processes)
    curve = losses(one, 1)
    assert curve[-1] < 0.5 * curve[0]
    np.testing.assert_allclose(losses(tmp_path, processes), curve, rtol=1e-4)
    expected, found = (load_file(out / checkpoint.FINAL) for out in (one, tmp_path))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-5, rtol=1e-4)


def test_a_killed_process_ends_the_run_in_one_line_and_it_resumes(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, 2)
    job = launch(parts, 2, 1, 7)
    deadline = time.monotonic() + 200
    while (
        not (parts / "loss_0.jsonl").is_file() or "[7, " not in (parts / "loss_0.jsonl").read_text()
    ):
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.05)
    killed = time.monotonic()
    _, errors = job.communicate(timeout=60)
    assert job.returncode != 0
    assert time.monotonic() - killed < 30
    assert "process 0 of 2 stopped, as another process of the run ended" in errors
    assert 'parallel_job.py", line' not in errors  # no traceback of ours
    train(parts, 2)
    first, second = (load_file(out / checkpoint.FINAL) for out in (whole, parts))
    assert all(torch.equal(first[key], second[key]) for key in first)
    np.testing.assert_array_equal(losses(whole, 2), losses(parts, 2))
