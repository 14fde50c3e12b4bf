"""The loop: what is learnt, what is written, and what happens when a step goes wrong."""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from data import weight_files
from data.errors import DatasetError, DivergenceError, OutOfMemoryError, SettingError, WeightsError
from train import checkpoint, engine, history
from train.distributed import World
from train.sampling import BatchSampler, generator
from train.schedule import poly

WORLD = World(0, 1, torch.device("cpu"))


class Net(nn.Module):
    """Dropout and batch statistics: randomness and buffers that resuming has to restore."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1)
        )

    def forward(self, x):
        return self.layers(x)


def batches(start: int):
    for draws in BatchSampler(40, 8, seed=5, start=start):
        x = torch.stack([torch.from_numpy(generator(5, d).standard_normal(4)) for d in draws])
        yield {"x": x.float(), "y": x.float().sum(1, keepdim=True)}


def loss(model, batch):
    error = nn.functional.mse_loss(model(batch["x"]), batch["y"])
    return {"mse": error, "total": error}


def training(out, *, steps=12, **settings) -> engine.Training:
    torch.manual_seed(0)
    model = Net()
    return engine.Training(
        model,
        torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        schedule=poly(steps),
        loss=settings.pop("loss", loss),
        settings=engine.Settings(out=out, steps=steps, **settings),
        world=WORLD,
    )


def final(out) -> dict[str, torch.Tensor]:
    return load_file(out / checkpoint.FINAL)


def test_loss_falls_and_every_file_is_written(tmp_path):
    run = training(tmp_path, steps=150, select="score", evaluate_every=50, recipe={"arch": "net"})
    run.run(batches, lambda model: {"score": float(run.step)})
    rows = history.read(tmp_path)
    mse = [row["mse"] for row in rows if "mse" in row]
    assert sum(mse[-30:]) / 30 < 0.7 * sum(mse[:10]) / 10
    assert [row["step"] for row in rows if "score" in row] == [50, 100, 150]
    assert (tmp_path / history.CURVES).read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "tensorboard").iterdir())
    for name in (checkpoint.BEST, checkpoint.FINAL):
        recipe = weight_files.read(tmp_path / name).recipe
        assert (recipe["arch"], recipe["trained_steps"]) == ("net", 150)
    assert weight_files.read(tmp_path / checkpoint.LATEST).recipe == {"arch": "net"}


@pytest.mark.parametrize("stop", [1, 4, 5, 11])
@pytest.mark.parametrize("extra", [{}, {"accumulate": 3, "ema": 0.9, "clip_norm": 0.5}])
def test_resumed_training_ends_with_the_same_bits(tmp_path, stop, extra):
    training(tmp_path / "whole", **extra).run(batches)

    class Killed(Exception):
        pass

    first = training(tmp_path / "parts", save_every=1, **extra)

    def kill(model):
        raise Killed

    object.__setattr__(first.settings, "evaluate_every", stop + 1)
    with pytest.raises(Killed):
        first.run(batches, kill)
    second = training(tmp_path / "parts", **extra)
    second.resume(tmp_path / "parts" / checkpoint.LATEST)
    assert second.step == stop
    second.run(batches)
    whole, parts = final(tmp_path / "whole"), final(tmp_path / "parts")
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert history.read(tmp_path / "whole") == history.read(tmp_path / "parts")


def test_seed_decides_the_weights(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        training(tmp_path / name, seed=seed).run(batches)
    key = "layers.0.weight"
    assert torch.equal(final(tmp_path / "a")[key], final(tmp_path / "b")[key])
    assert not torch.equal(final(tmp_path / "a")[key], final(tmp_path / "c")[key])


def test_accumulated_gradient_is_the_mean(tmp_path):
    run = training(tmp_path, accumulate=2)
    for module in run.model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.Dropout):
            module.eval()
    run._gradients(list(itertools.islice(batches(0), 2)))
    accumulated = run.model.layers[0].weight.grad.clone()
    stream = batches(0)
    run.model.zero_grad()
    both = [loss(run.model, next(stream))["total"] for _ in range(2)]
    (sum(both) / 2).backward()
    torch.testing.assert_close(accumulated, run.model.layers[0].weight.grad)


def test_average_is_the_published_formula_and_is_what_gets_evaluated(tmp_path):
    seen = []

    def watch(model):
        seen.append(model.layers[0].bias.detach().clone())
        seen.append(run.model.layers[0].bias.detach().clone())
        return {}

    run = training(tmp_path, steps=3, ema=0.75, evaluate_every=1)
    run.run(batches, watch)
    # The average starts as the weights after the first step.
    expected = seen[1]
    for weights in seen[3::2]:
        expected = 0.75 * expected + 0.25 * weights
    torch.testing.assert_close(seen[-2], expected)
    assert torch.equal(final(tmp_path)["layers.0.bias"], seen[-2])


def test_best_weights_are_those_of_the_best_score(tmp_path):
    scores, kept = iter([0.2, 0.9, math.nan, 0.4]), []

    def evaluate(model):
        kept.append(model.layers[0].bias.detach().clone())
        return {"score": next(scores)}

    training(tmp_path, steps=4, evaluate_every=1, select="score").run(batches, evaluate)
    best = load_file(tmp_path / checkpoint.BEST)
    assert torch.equal(best["layers.0.bias"], kept[1])


def test_loss_that_is_not_finite_stops_with_its_batch_saved(tmp_path):
    def breaks(model, batch):
        terms = loss(model, batch)
        return {**terms, "total": terms["total"] * (math.nan if breaks.left == 0 else 1)}

    breaks.left = 3

    def counted(model, batch):
        breaks.left -= 1
        return breaks(model, batch)

    run = training(tmp_path, loss=counted, save_every=1)
    with pytest.raises(DivergenceError, match=r"step 2.*nonfinite_step_2_rank_0\.pt"):
        run.run(batches)
    saved = torch.load(tmp_path / "nonfinite_step_2_rank_0.pt", weights_only=True)
    stream = batches(2)
    assert torch.equal(saved["batch"]["x"], next(stream)["x"])
    assert (saved["step"], math.isnan(saved["terms"]["total"])) == (2, True)
    content = checkpoint.load(tmp_path / checkpoint.LATEST, identity={})
    assert content["step"] == 2
    assert all(value.isfinite().all() for value in content["state_dict"].values())


def test_out_of_memory_says_which_knob(tmp_path):
    def exhausts(model, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    run = training(tmp_path, loss=exhausts, memory_advice="--batch_size 2 --accumulate 3")
    with pytest.raises(OutOfMemoryError, match=r"--batch_size 2 --accumulate 3.*20 GiB"):
        run.run(batches)


def test_resume_refuses_another_training(tmp_path):
    training(tmp_path, identity={"arch": "a", "fold": 0}).run(batches)
    other = training(tmp_path, identity={"arch": "a", "fold": 2})
    with pytest.raises(WeightsError, match="fold was 0, is 2"):
        other.resume(tmp_path / checkpoint.LATEST)


def test_resume_refuses_bare_weights(tmp_path):
    torch.save(Net().state_dict(), tmp_path / "bare.pth")
    with pytest.raises(WeightsError, match="no training run can be resumed"):
        training(tmp_path).resume(tmp_path / "bare.pth")


def test_bf16_autocast_trains_close_to_float32(tmp_path):
    for name in ("none", "bf16"):
        training(tmp_path / name, steps=40, autocast=name).run(batches)
    exact, half = (history.read(tmp_path / n)[-1]["mse"] for n in ("none", "bf16"))
    assert exact != half
    assert half == pytest.approx(exact, rel=0.3)


def test_compiled_network_makes_the_same_steps(tmp_path, monkeypatch):
    # The graphs that are traced and differentiated, without a C++ compiler's minutes.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))

    def sober(model, batch):
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # a compiled network draws other numbers
        return loss(model, batch)

    for name, compiles in (("plain", False), ("compiled", True)):
        training(tmp_path / name, steps=4, compile=compiles, ema=0.5, loss=sober).run(batches)
    plain, compiled = final(tmp_path / "plain"), final(tmp_path / "compiled")
    assert plain.keys() == compiled.keys()
    for key, value in plain.items():
        torch.testing.assert_close(compiled[key], value, atol=1e-5, rtol=1e-4)


PARALLEL = """
import sys, torch
from pathlib import Path
from tests.train.test_engine import Net, loss, batches
from train import distributed, engine
from train.schedule import poly
with distributed.start("cpu") as world:
    torch.manual_seed(0)
    model = Net()
    for m in model.modules():
        if isinstance(m, torch.nn.Dropout): m.p = 0.0
    def mine(start):
        for batch in batches(start):
            half = len(batch["x"]) // world.size
            yield {k: v[world.rank * half:(world.rank + 1) * half] for k, v in batch.items()}
    def frozen(model, batch):
        for m in model.modules():
            if isinstance(m, torch.nn.BatchNorm1d): m.eval()
        return loss(model, batch)
    run = engine.Training(model, torch.optim.SGD(model.parameters(), lr=0.05),
        schedule=poly(6), loss=frozen, world=world,
        settings=engine.Settings(out=Path(sys.argv[1]), steps=6, accumulate=2))
    run.run(mine)
    import numpy as np
    assert world.sum(np.array([world.rank + 1])) == sum(range(1, world.size + 1))
"""


def test_two_processes_make_the_steps_of_one(tmp_path, monkeypatch):
    (tmp_path / "job.py").write_text(PARALLEL)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["job.py", str(tmp_path / "1")])
        runpy.run_path(str(tmp_path / "job.py"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(tmp_path / "job.py"), str(tmp_path / "2")]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = final(tmp_path / "1"), final(tmp_path / "2")
    for key in one:
        torch.testing.assert_close(one[key], two[key], atol=1e-6, rtol=1e-5)


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def test_history_survives_a_torn_last_row(tmp_path):
    record = history.History(tmp_path)
    for step in (1, 2):
        record.add(step, {"a": 2.0})
    record.close(draws=False)
    path = tmp_path / history.FILE
    path.write_text(path.read_text()[:-9])
    assert history.read(tmp_path) == [{"step": 1, "a": 2.0}]


@pytest.mark.parametrize(
    ("old", "new"),
    [('"a": 2.5', '"a": 2.0'), ('"step": 2', '"step": 3'), (', "crc32"', ', "crc31"')],
)
def test_a_history_row_that_was_altered_is_no_row(tmp_path, old, new):
    record = history.History(tmp_path)
    for step in (1, 2, 4):
        record.add(step, {"a": step + 0.5})
    record.close(draws=False)
    path = tmp_path / history.FILE
    first, second, third = path.read_text().splitlines(keepends=True)
    path.write_text(first + second.replace(old, new) + third)
    assert [row["step"] for row in history.read(tmp_path)] == [1, 4]
    path.write_text(first + third + second + third)
    assert [row["step"] for row in history.read(tmp_path)] == [1, 4]


@pytest.mark.parametrize(
    "damage",
    ["{", '{"a": 1}', "[1]", '{"step": "2"}', "\ufffd", "[" * 100_000, "\x00\x00"],
)
def test_a_damaged_history_is_set_aside_and_resuming_continues(tmp_path, damage, caplog):
    training(tmp_path, steps=4, save_every=2).run(batches)
    path = tmp_path / history.FILE
    lines = path.read_text().splitlines(keepends=True)
    text = "".join([lines[0], damage + "\n", *lines[2:]])
    path.write_text(text)
    again = training(tmp_path, steps=4)
    again.resume(tmp_path / checkpoint.LATEST)
    again.run(batches)
    assert (tmp_path / history.DAMAGED).read_text() == text
    assert [row["step"] for row in history.read(tmp_path)] == [1, 3, 4]
    assert "1 of 4 lines are damaged" in caplog.text


def test_a_figure_that_is_not_finite_is_null_in_the_history(tmp_path):
    record = history.History(tmp_path)
    record.add(1, {"a": math.nan, "b": math.inf, "c": 2.0})
    record.add(2, {"a": 1.0, "b": -math.inf, "c": math.nan})
    record.close()
    strict = [
        json.loads(line, parse_constant=pytest.fail)
        for line in (tmp_path / history.FILE).read_text().splitlines()
    ]
    assert strict[0].items() >= {"step": 1, "a": None, "b": None, "c": 2.0}.items()
    assert (tmp_path / history.CURVES).is_file()


def test_curves_that_a_kill_prevented_are_drawn_on_resuming(tmp_path):
    training(tmp_path, steps=3).run(batches)
    (tmp_path / history.CURVES).unlink()
    again = training(tmp_path, steps=3)
    again.resume(tmp_path / checkpoint.LATEST)
    again.run(batches)
    assert (tmp_path / history.CURVES).is_file()


def test_a_step_reads_the_device_once(tmp_path):
    """Each value that is read makes the CPU wait for the GPU."""
    reads = []

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if "_local_scalar_dense" in str(function):
                reads.append(function)
            return function(*args, **(kwargs or {}))

    run = training(tmp_path, steps=4, accumulate=3, clip_norm=1.0)
    with Counting():
        run.run(batches)
    assert not reads


def test_progress_names_rate_memory_and_time_left(tmp_path, caplog):
    with caplog.at_level("INFO"):
        training(tmp_path, steps=4, log_every=2).run(batches)
    line = next(m for m in caplog.messages if m.startswith("step 2 of 4"))
    assert re.search(r"mse [\d.]+, total [\d.]+; [\d.e+]+ images/s, .* left; [\d.]+ GiB", line)


FULL = """
import resource, signal, sys
from pathlib import Path
from tests.train.test_engine import batches, training
from train import checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
out = Path(sys.argv[1])
run = training(out, steps=40, save_every=1)
if (out / checkpoint.LATEST).is_file():
    run.resume(out / checkpoint.LATEST)
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    run.run(batches)
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [300, 2_000, 6_000])
def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(tmp_path, limit):
    """No file may grow beyond the limit, as on a full disk: history, TensorBoard, weights."""
    out = tmp_path / "out"
    training(out, steps=2, save_every=1).run(batches)
    before = (out / checkpoint.LATEST).read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(out), str(limit)],
        **{"capture_output": True, "text": True, "env": environment(), "check": True},
    )
    assert done.stdout.count("\n") == 1 and "Traceback" not in done.stderr, done.stderr
    assert "training stopped after step 3: cannot write" in done.stdout
    assert f"{out / checkpoint.LATEST} is intact" in done.stdout
    assert (out / checkpoint.LATEST).read_bytes() == before
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_a_missing_figure_for_the_best_weights_is_an_error(tmp_path):
    run = training(tmp_path, steps=2, select="miou")
    with pytest.raises(SettingError, match=r"'miou' .* there are other"):
        run.run(batches, lambda model: {"other": 1.0})


@pytest.mark.gpu
@pytest.mark.parametrize("autocast", ["none", "bf16", "fp16"])
def test_trains_on_a_gpu_and_resumes(tmp_path, autocast):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    world = World(0, 1, torch.device("cuda", 0))
    settings = engine.Settings(
        out=tmp_path, steps=30, autocast=autocast, ema=0.9, clip_norm=1.0, channels_last=True
    )
    for resumes in (False, True):
        model = Net()
        run = engine.Training(
            model,
            torch.optim.SGD(model.parameters(), lr=0.05),
            schedule=poly(30),
            loss=loss,
            settings=settings,
            world=world,
        )
        if resumes:
            run.resume(tmp_path / checkpoint.LATEST)
            assert run.step == 30
        run.run(batches)
    assert all(value.isfinite().all() for value in final(tmp_path).values())


def test_a_checkpoint_of_another_kind_of_run_is_refused_in_a_few_words(tmp_path):
    training(tmp_path, identity={"a": 1}).run(batches)
    other = training(tmp_path, identity={f"setting {n}": n for n in range(30)})
    with pytest.raises(WeightsError, match="not of a training run of this kind") as error:
        other.resume(tmp_path / checkpoint.LATEST)
    assert len(str(error.value)) < 400
    training(tmp_path / "b", identity={f"setting {n}": n for n in range(30)}).run(batches)
    other = training(tmp_path / "b", identity={f"setting {n}": -1 for n in range(30)})
    with pytest.raises(WeightsError, match="setting 4 was 4, is -1; and 25 more"):
        other.resume(tmp_path / "b" / checkpoint.LATEST)


def test_steps_are_kept_when_their_evaluation_fails(tmp_path):
    def fail(model):
        raise DatasetError("none of the test images can be read")

    run = training(tmp_path, steps=3, evaluate_every=3)
    with pytest.raises(DatasetError):
        run.run(batches, fail)
    again = training(tmp_path, steps=3)
    again.resume(tmp_path / checkpoint.LATEST)
    assert again.step == 3


def test_a_diverged_run_without_a_checkpoint_names_none(tmp_path):
    def diverge(model, batch):
        return {"total": model(batch["x"]).sum() * math.nan}

    with pytest.raises(DivergenceError, match="no step was saved"):
        training(tmp_path, loss=diverge).run(batches)
