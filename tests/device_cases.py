"""Every path that takes a device, on one whose tensors refuse those of the CPU.

`test_device.py` runs this file in a process of its own, as the device changes torch for good.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import demo.demo  # noqa: F401  all modules that choose a device
import sazs  # noqa: F401
from data.pictures import read_image
from eigen.extractors import extractor
from eigen.graphs.cosine import CosineAffinity
from eigen.graphs.cosine_torch import DeviceCosineAffinity
from eigen.solvers.batch import solve_batch
from eigen.solvers.spec import SolveSpec
from eval.zegformer.segmenter import Classes, Scoring, Segmenter
from models.clip.clip import CLIP
from models.zegformer.network import ZegFormer
from pipeline import streaming
from pipeline.config import resolve
from tests import device as far_device
from tests.demo import test_demo as demo_tests
from tests.pictures import scene
from tests.pipeline.test_streaming import NETWORK, entries  # noqa: F401  a fixture
from tests.train.sazs import test_train as sazs_tests
from tests.train.test_engine import Net, batches, loss
from tests.train.zegformer import test_train as zegformer_tests
from train import checkpoint, engine, history
from train.distributed import World
from train.schedule import poly

far_device.register()
far_device.stand_in()

FAR = torch.device(far_device.NAME, 0)
world, setting, root = sazs_tests.world, demo_tests.setting, zegformer_tests.root


def test_the_device_refuses_tensors_of_the_cpu():
    x, y = torch.ones(2, 3, device=FAR), torch.ones(2, 3)
    for mixed in (
        lambda: x + y,
        lambda: torch.stack([x, y]),
        lambda: x.add_(y),
        lambda: y.add_(x),
        lambda: x @ y.T,
        lambda: torch.where(x > 0, x, y),
        lambda: nn.Linear(3, 2)(x),
        lambda: nn.functional.normalize(x, dim=1) * y[0],
    ):
        with pytest.raises(RuntimeError, match="same device"):
            mixed()
    with pytest.raises(TypeError, match=r"\.cpu\(\)"):
        x.numpy()
    assert (x + torch.tensor(2.0)).cpu().sum() == 18
    assert x.copy_(y).device == FAR
    assert y.copy_(x).device.type == "cpu"


def made(device: str, name: str):
    return extractor(name, weights="random:0", device=device)


@pytest.mark.parametrize("name", ["dino_vits16", "dinov2_vits14", "efficientnet_lite0"])
def test_extractors(name):
    images = [scene(64, 96, seed) for seed in (0, 1)]
    near, far = made("cpu", name), made("cuda", name)
    assert far.features_tensor(images).device == FAR
    np.testing.assert_allclose(far(images), near(images), atol=1e-5)


def test_an_extractor_that_forgets_its_device_fails(monkeypatch):
    far = made("cuda", "dino_vits16")
    monkeypatch.setattr(far, "_device", torch.device("cpu"))
    with pytest.raises(RuntimeError, match="same device"):
        far([scene(64, 96)])


def unit(n: int, seed: int) -> np.ndarray:
    x = np.abs(np.random.default_rng(seed).standard_normal((n, 6))).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_batched_solver():
    features = [unit(n, seed) for seed, n in enumerate((300, 410, 300, 40))]
    near = solve_batch(features, SolveSpec(k=4))
    for given in (features, [torch.from_numpy(x).to(FAR) for x in features]):
        for a, b in zip(near, solve_batch(given, SolveSpec(k=4), device=FAR), strict=True):
            np.testing.assert_allclose(b.eigenvalues, a.eigenvalues, atol=1e-5)
            assert b.residual.max() <= 1e-5


def test_affinity_that_is_never_stored():
    x, vectors = unit(500, 0), np.random.default_rng(1).standard_normal((500, 3))
    far, near = DeviceCosineAffinity(x, FAR), CosineAffinity(x)
    np.testing.assert_allclose(far.matmat(vectors), near.matmat(vectors), rtol=1e-5)


def test_streaming(entries, monkeypatch):  # noqa: F811
    config = resolve(NETWORK)
    near = list(streaming.stream(entries, config, workers=1))
    monkeypatch.setattr(streaming, "extractor_for", lambda _: made("cuda", "dino_vits16"))
    far = list(streaming.stream(entries, config, workers=1))
    assert [x.id for x in far] == [x.id for x in near]
    assert [x.value is None for x in far] == [x.value is None for x in near]


class Forgets(nn.Module):
    """A network with a constant that stays on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.scale = Net(), torch.ones(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x * self.scale)


@pytest.mark.parametrize("forgets", [False, True])
def test_engine(tmp_path, forgets):
    def run(out, where: torch.device, steps: int = 6) -> engine.Training:
        torch.manual_seed(0)
        model = Forgets() if forgets else Net()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return engine.Training(
            model,
            torch.optim.AdamW(model.to(where).parameters(), lr=0.01),
            schedule=poly(6),
            loss=loss,
            settings=engine.Settings(
                out=out, steps=steps, ema=0.5, clip_norm=1.0, accumulate=2, evaluate_every=2
            ),
            world=World(0, 1, where),
        )

    if forgets:
        with pytest.raises(RuntimeError, match="same device"):
            run(tmp_path, FAR).run(batches)
        return
    run(tmp_path / "near", torch.device("cpu")).run(batches)
    run(tmp_path / "far", FAR, steps=3).run(batches)
    resumed = run(tmp_path / "far", FAR)
    resumed.resume(tmp_path / "far" / checkpoint.LATEST)
    resumed.run(batches)
    near, far = (history.read(tmp_path / name) for name in ("near", "far"))
    assert far[-1]["step"] == 6
    assert far[-1]["mse"] == pytest.approx(near[-1]["mse"], rel=1e-4)


def on(words: list[str]) -> list[str]:
    return ["cuda" if word == "cpu" else word for word in words]


def test_sazs_from_training_to_scores(world, tmp_path):
    small = on(sazs_tests.SMALL)
    small[small.index("--epochs") + 1] = "1"
    words = [*small, *sazs_tests.arguments(world, tmp_path)]
    sazs_tests.run("train", *words)
    (tmp_path / checkpoint.FINAL).unlink()
    assert "resuming from" in sazs_tests.run("train", *words)
    given = ["--resume", str(tmp_path / checkpoint.FINAL), "--input-side", "0", "--pictures", "1"]
    given += ["--device", "cuda"]
    output = sazs_tests.run("test", *given, *sazs_tests.arguments(world, tmp_path / "scores"))
    assert "network" in output


def test_zegformer_from_training_to_scores(root, tmp_path):
    changes = {"MODEL__DEVICE": "cuda", "SOLVER__MAX_ITER": 2}
    settings = zegformer_tests.configured(root, tmp_path, **changes)
    where = World(0, 1, FAR)
    _, figures = zegformer_tests.zegformer.train(settings, where)
    assert "mIoU" in " ".join(figures)
    zegformer_tests.zegformer.train(settings, where, resume=True)


def segmenter(where: torch.device) -> Segmenter:
    torch.manual_seed(0)
    model = ZegFormer(
        depth=50, queries=5, dim=32, mask_dim=32, heads=2, layers=1, feedforward=32, text_dim=16
    )
    clip = CLIP(image_size=32, patch=16, width=64, layers=1, text_width=64, text_layers=1, dim=16)
    text = nn.functional.normalize(torch.randn(4, 16), dim=1)
    classes = Classes(text.to(where), torch.arange(4) > 2, text.to(where))
    return Segmenter(model.to(where).eval(), classes, clip=clip.to(where).eval(), scoring=Scoring())


def test_crops_of_zegformer():
    image = torch.from_numpy(scene(60, 80)).permute(2, 0, 1)
    near, far = (
        segmenter(where).predict([image], [(60, 80)]) for where in (torch.device("cpu"), FAR)
    )
    assert torch.equal(near[0], far[0].cpu())


def test_demo(setting, tmp_path):
    small = on(demo_tests.small())
    photos = setting / "photos"
    assert demo_tests.run(setting, "--input", photos, "--output", tmp_path, opts=small) == 0
    assert read_image(tmp_path / "a.png").shape == (40, 56, 3)
