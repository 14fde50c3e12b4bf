"""SIGTERM saves and ends a run; no reading process outlives its run, however that ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed.run
from click.testing import CliRunner
from safetensors.torch import load_file
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

import train_net
from data import lifetime, weight_files
from data.errors import RunError
from tests.train import test_engine
from tests.train.sazs import test_train as sazs_tests
from tests.train.test_engine import batches, final, training
from tests.train.zegformer import test_train as zegformer_tests
from train import checkpoint, history, signals
from train.distributed import World

ROOT = Path(__file__).parents[2]
world = sazs_tests.world
root = zegformer_tests.root


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("stop", [1, 4, 11])
@pytest.mark.parametrize("extra", [{}, {"accumulate": 2, "ema": 0.9}])
def test_a_terminated_run_resumes_to_the_same_bits(tmp_path, stop, extra):
    training(tmp_path / "whole", **extra).run(batches)

    def interrupted(model, batch):
        if run.step == stop:
            terminate()
        return test_engine.loss(model, batch)

    run = training(tmp_path / "parts", loss=interrupted, **extra)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RunError, match=rf"SIGTERM: stopped after step {stop + 1} of 12.*resume"):
        run.run(batches)
    assert signal.getsignal(signal.SIGTERM) is before
    again = training(tmp_path / "parts", **extra)
    again.resume(tmp_path / "parts" / checkpoint.LATEST)
    assert again.step == stop + 1
    again.run(batches)
    whole, parts = final(tmp_path / "whole"), final(tmp_path / "parts")
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert history.read(tmp_path / "whole") == history.read(tmp_path / "parts")


@pytest.mark.parametrize("step", [4, 8, 12])
def test_an_evaluation_that_was_broken_off_is_made_up_for(tmp_path, step):
    """Its figures may be those of the best weights."""
    settings = {"evaluate_every": 4, "select": "score"}

    def score(run):
        return lambda model: {"score": -abs(run.step - step)}

    whole = training(tmp_path / "whole", **settings)
    whole.run(batches, score(whole))

    def broken_off(model):
        if run.step == step:
            terminate()
            time.sleep(60)
        return score(run)(model)

    run = training(tmp_path / "parts", **settings)
    started = time.monotonic()
    with pytest.raises(RunError, match=f"after step {step} of 12"):
        run.run(batches, broken_off)
    assert time.monotonic() - started < 30
    again = training(tmp_path / "parts", **settings)
    again.resume(tmp_path / "parts" / checkpoint.LATEST)
    again.run(batches, score(again))
    assert history.read(tmp_path / "whole") == history.read(tmp_path / "parts")
    best = [weight_files.read(tmp_path / part / checkpoint.BEST) for part in ("whole", "parts")]
    assert best[0].recipe == best[1].recipe
    assert best[0].recipe["trained_steps"] == step
    tensors = [load_file(tmp_path / part / checkpoint.BEST) for part in ("whole", "parts")]
    assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])


def test_a_signal_without_a_step_left_takes_its_usual_effect():
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with signals.Termination(str) as termination:
            terminate()
            assert termination.requested
            assert not received
        assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_one_process_that_is_asked_stops_all():
    class Other(World):
        def sum(self, counts):
            return counts + 1

    with signals.Termination(str) as termination:
        assert not termination.agreed(World(0, 1, torch.device("cpu")))
        assert termination.agreed(Other(0, 2, torch.device("cpu")))


def test_another_thread_than_the_main_one_trains_without_a_handler(tmp_path):
    before, failures = signal.getsignal(signal.SIGTERM), []

    def train() -> None:
        try:
            training(tmp_path, steps=2).run(batches)
            assert signal.getsignal(signal.SIGTERM) is before
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert not failures


@pytest.mark.parametrize("message", ["[/x/gloo/transport/tcp/pair.cc:547] Connection closed"])
def test_the_end_of_another_process_is_one_line(tmp_path, message):
    def lost(model, batch):
        raise RuntimeError(message)

    alone = training(tmp_path / "alone", loss=lost)
    with pytest.raises(RuntimeError, match="Connection closed"):
        alone.run(batches)
    several = training(tmp_path / "several", loss=lost)
    several.world = World(1, 2, torch.device("cpu"))
    several.compiled.no_sync = contextlib.nullcontext
    with pytest.raises(RunError, match="process 1 of 2 stopped, as another process"):
        several.run(batches)


def start(script: str, *words: str) -> subprocess.Popen[str]:
    """A Python process in a group of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *(["-c", script] if script else []), *words],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


STUCK = """
import time, sys
from pathlib import Path
from train import signals
signals.DEADLINE_S = 1.0
with signals.Termination(lambda: "no time"):
    print("ready", flush=True)
    time.sleep(600)
"""


def test_a_step_without_end_ends_at_the_deadline():
    job = start(STUCK)
    assert job.stdout.readline() == "ready\n"
    sent = time.monotonic()
    job.terminate()
    _, errors = job.communicate(timeout=60)
    assert (job.returncode, errors) == (128 + signal.SIGTERM, "no time\n")
    assert time.monotonic() - sent < 10


READERS = """
import sys, time
import torch
from tests.train.parallel_job import Points, collate
from train.distributed import World
from train.loading import make_loader
from train.sampling import BatchSampler
world = World(0, 1, torch.device("cpu"))
draws = BatchSampler(40, 4, seed=0)
stream = make_loader(Points(), draws, collate=collate, world=world, workers=2)
next(stream)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_readers_end_with_their_run(number):
    job = start(READERS)
    assert job.stdout.readline() == "ready\n"
    children = psutil.Process(job.pid).children(recursive=True)
    assert len(children) >= 3  # the fork server and two readers
    job.send_signal(number)
    job.communicate(timeout=20)
    assert not psutil.wait_procs(children, timeout=10)[1]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            ChildFailedError("x", {1: ProcessFailure(1, 77, -9, "<N/A>")}),
            "Error: process 1 of 2 was killed by SIGKILL, usually because the machine ran out of "
            "memory; --resume continues it",
        ),
        (
            ChildFailedError("x", {0: ProcessFailure(0, 77, 1, "<N/A>")}),
            "Error: process 0 of 2 ended first; its message is above",
        ),
        (
            SignalException("x", signal.SIGTERM),
            "Error: SIGTERM: all processes of the run were stopped; --resume continues it",
        ),
    ],
)
def test_the_launcher_ends_in_one_line(monkeypatch, error, expected):
    def fails(arguments):
        raise error

    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(torch.distributed.run, "main", fails)
    words = ["--num-gpus", "2", "--config-file", str(zegformer_tests.BASE)]
    result = CliRunner().invoke(train_net.main, words)
    assert (result.exit_code, result.output.strip()) == (1, expected)


def wait_for_steps(out: Path, job: subprocess.Popen[str], step: int) -> None:
    deadline = time.monotonic() + 200
    while not any(row["step"] >= step for row in rows(out)):
        assert job.poll() is None, job.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def rows(out: Path) -> list[dict]:
    return history.read(out) if (out / history.FILE).is_file() else []


def commands(request, system: str, out: Path) -> list[str]:
    if system == "sazs":
        folder = request.getfixturevalue("world")
        small = {"--epochs": "400", "--workers": "2", "--save-every": "1"}
        words = list(sazs_tests.SMALL)
        for name, value in small.items():
            if name in words:
                words[words.index(name) + 1] = value
            else:
                words += [name, value]
        return ["sazs.py", "train", *words, *sazs_tests.arguments(folder, out)]
    folder = request.getfixturevalue("root")
    changes = {"SOLVER.MAX_ITER": 4000, "DATALOADER.NUM_WORKERS": 2}
    options = zegformer_tests.options(folder, out, **changes)
    return ["train_net.py", "--config-file", str(zegformer_tests.BASE), "--resume", *options]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("system", ["sazs", "zegformer"])
def test_both_systems_save_on_sigterm_and_leave_no_process(request, tmp_path, system):
    command = commands(request, system, tmp_path)
    job = start("", *command)
    wait_for_steps(tmp_path, job, 3)
    children = psutil.Process(job.pid).children(recursive=True)
    assert len(children) >= 3
    os.kill(job.pid, signal.SIGKILL)
    job.communicate(timeout=20)
    assert not psutil.wait_procs(children, timeout=10)[1]

    known = len(rows(tmp_path))
    job = start("", *command)
    wait_for_steps(tmp_path, job, known + 2)
    children = psutil.Process(job.pid).children(recursive=True)
    sent = time.monotonic()
    os.killpg(job.pid, signal.SIGTERM)  # as a cluster does
    _, errors = job.communicate(timeout=60)
    assert time.monotonic() - sent < 10
    assert job.returncode == 1
    assert "SIGTERM: stopped after step" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert not psutil.wait_procs(children, timeout=15)[1]
    saved = checkpoint.load(tmp_path / checkpoint.LATEST, identity={})["step"]
    assert saved == rows(tmp_path)[-1]["step"] > known


def test_a_missing_pidfd_is_replaced_by_looking(monkeypatch):
    ended = []
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    monkeypatch.setattr(lifetime, "_POLL_S", 0.01)
    monkeypatch.setattr(os, "_exit", ended.append)
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    lifetime._end_with(process.pid)
    assert ended == [1]
