"""Which GPU a job gets, with simulated GPUs."""

import os
import signal
import subprocess
import sys

import pytest

from pipeline import gpu


@pytest.fixture(autouse=True)
def _nobody_chose(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_two_jobs_get_two_gpus_and_the_third_is_warned(tmp_path, caplog):
    holder = (
        "from pathlib import Path; from pipeline.gpu import claimed\n"
        f"with claimed(2, Path({str(tmp_path)!r})) as number:\n"
        "    print(number, flush=True); import time; time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"0\n"
        with gpu.claimed(2, tmp_path) as second:
            assert second == 1
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
        with (
            gpu.claimed(2, tmp_path) as again,
            subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE) as third,
        ):
            assert again == 1
            assert third.stdout.readline() == b"None\n"
            third.kill()
        other.send_signal(signal.SIGKILL)
        other.wait()
    with gpu.claimed(2, tmp_path) as freed:
        assert freed == 0, "the lock of a killed job is free"


def test_an_assigned_gpu_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with gpu.claimed(8, tmp_path) as number:
        assert number is None
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"


@pytest.mark.parametrize("gpus", [0, 1])
def test_without_a_choice_nothing_is_claimed(tmp_path, gpus):
    with gpu.claimed(gpus, tmp_path) as number:
        assert number is None
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_a_driver_has_none(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert gpu.count() == 0
