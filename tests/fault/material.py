"""Small files of every kind that this software writes, made by the code that makes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from data import stored_features, weight_files
from data.pictures import write_png
from data.sazs.splits import BENCHMARKS, ROLES, Lists
from data.sealed import write_json
from models.sazs.lite import STAGES as LITE_STAGES
from pipeline import cli, manifest
from pipeline.config import options, resolve
from tests.pictures import scene
from train import checkpoint, history, unread

SETTINGS = {"extractor": "lowlevel8", "k": 3, "shard_size": 3}
STAGES = ("manifest", "fused", "masks", "index", "report")
PER_SHARD = {"fused", "features", "laplacian", "eigenvectors", "masks"}


def write_photos(folder: Path, count: int = 5) -> None:
    """Small photos, and one that goes to quarantine."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(scene(48 + 8 * number, 64, number)).save(folder / f"photo {number}é.jpg")
    (folder / "broken.jpg").write_bytes(b"no image")


def command(
    stage: str,
    settings: Mapping[str, Any],
    *,
    shard: int | None = None,
    dataset: str = "folder",
) -> list[str]:
    """The words of a stage, as the rules give them."""
    words = [stage, "--dataset", dataset]
    if stage in PER_SHARD:
        words += ["--shard", str(shard or 0)]
    return words + options(resolve(dict(settings)), stage)


def run(words: Iterable[str]) -> None:
    """Run a command of the pipeline in this process; raises what it raises."""
    cli.main(["--quiet", "--debug", *words], standalone_mode=False)


def settings_for(photos: Path, results: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a run over `photos` with its results below `results`."""
    return {**SETTINGS, "folder": str(photos), "results_root": str(results), **changes}


def make_results(photos: Path, results: Path, **changes: Any) -> Path:
    """All stages over `photos`, all shards; returns the folder of the data set."""
    settings = settings_for(photos, results, **changes)
    middle = STAGES[1:2]
    if settings.get("path") == "staged":
        middle = ("features", "laplacian", "eigenvectors")
    run(command("manifest", settings))
    entries = manifest.read(results / "folder" / "manifest.csv")
    shards = sorted({entry.shard for entry in entries if entry.shard is not None})
    for stage in (*middle, "masks", "index", "report"):
        for shard in shards if stage in PER_SHARD else (None,):
            run(command(stage, settings, shard=shard))
    return results / "folder"


FURTHER = ("objects", "segments", "clusters")
DISCOVERING = {"segments": 2, "clusters": 2, "refine_objects": False, "cluster_background": False}


def make_discovery(photos: Path, results: Path) -> None:
    """Objects, segments and clusters on top of `make_results`."""
    settings = settings_for(photos, results, **DISCOVERING)
    for stage in FURTHER:
        run(command(stage, settings))


STORED = "0123456789abcdef" * 4
"""Key of the stored features."""


def write_stored(folder: Path) -> None:
    """Features of an image, as the training runs store them."""
    draw = torch.Generator().manual_seed(0)
    maps = {name: torch.randn(4, 3, 5, generator=draw).half() for name in LITE_STAGES}
    stored_features.write(folder / f"{STORED}.safetensors", maps)


def write_weights(folder: Path) -> None:
    """A resumable checkpoint, and weights with a recipe."""
    torch.manual_seed(0)
    state = {"conv.weight": torch.randn(8, 4, 3, 3), "conv.bias": torch.randn(8)}
    content = {
        "state_dict": state,
        "optimizer": {"state": {0: {"momentum_buffer": torch.randn(8)}}, "param_groups": []},
        "step": 7,
        "recipe": {"arch": "net", "fold": 1, "classes": ["cat", "sofa"]},
    }
    checkpoint.save(folder / checkpoint.LATEST, content)
    weight_files.write_safetensors(folder / checkpoint.FINAL, state, {"arch": "net", "fold": 1})


def write_training(folder: Path) -> None:
    """The history and the quarantine of a training run."""
    record = history.History(folder)
    for step in range(1, 9):
        record.add(step, {"loss": 1 / step, "lr": 0.01, "miou": float("nan")})
    record.close(draws=False)
    unread.Quarantine(folder).note([("a b", "a b.jpg: the file is empty"), ("c", 'c.jpg: "x, y"')])


def write_lists(path: Path) -> None:
    """Lists of PASCAL-5i with a few images."""
    benchmark = BENCHMARKS["pascal"]
    images = {
        role: {c: [f"{role}_{c}_{n}" for n in range(2)] for c in range(benchmark.classes)}
        for role in ROLES
    }
    Lists(benchmark, images, dict.fromkeys(ROLES, 40), [("x", "is missing")]).save(path)


def write_scores(path: Path) -> None:
    """Figures with names beyond ASCII and one that is not finite."""
    write_json(path, {"photos": 3, "figures": {"mIoU": 41.25, "żółć": None}, "unread": []})


def write_label(path: Path) -> None:
    """A label map of sixteen bits."""
    write_png(path, np.random.default_rng(0).integers(0, 847, (40, 56)).astype(np.uint16))


def as_json(value: Any) -> str:
    """A text that is equal for equal values, arrays and tensors too."""
    return json.dumps(value, sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return [value.dtype.str, list(value.shape), value.tobytes().hex()]
    if isinstance(value, np.generic):
        return value.item()
    return str(value)
