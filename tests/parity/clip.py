"""CLIP against `clip_vitb16`, `clip_vitb32`, `clip_tokens`.

Errors are largest absolute differences, and counts of differing rows for tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from data.errors import VocabularyError
from models.clip.clip import CLIP, tokenize
from tests.parity.case import Case, available
from tests.parity.fill import fill
from tests.parity.golden import OWN, Golden

FILES = ("clip_vitb16.npz", "clip_vitb32.npz", "clip_tokens.npz")


def cases(folder: Path) -> Iterator[Case]:
    for name in ("clip_vitb16", "clip_vitb32"):
        golden = Golden.find(folder, name)
        if golden is not None:
            with torch.no_grad():
                yield from available(_towers(folder, golden))
    golden = Golden.find(folder, "clip_tokens")
    if golden is not None:
        yield from available(_tokens(golden))


def build(info: dict) -> CLIP:
    hyper = info["hyper"]
    model = CLIP(
        image_size=hyper["image_resolution"],
        patch=hyper["vision_patch_size"],
        width=hyper["vision_width"],
        layers=hyper["vision_layers"],
        text_width=hyper["transformer_width"],
        text_layers=hyper["transformer_layers"],
        vocabulary=hyper["vocab_size"],
        dim=hyper["embed_dim"],
    )
    return fill(model, info["seed"]).eval()


def _towers(folder: Path, golden: Golden) -> Iterator[Case]:
    model = build(golden.info)
    yield _keys(folder, golden.name, model)
    tokens = tokenize(golden.info["texts"])
    yield golden.case("tokens", tokens, 0)
    text = model.encode_text(tokens)
    yield golden.case("text", text, 1e-4)
    image = model.encode_image(golden.picture(golden.info["input"]))
    yield golden.case("image", image, 1e-4)
    unit_text, unit_image = (x / x.norm(dim=1, keepdim=True) for x in (text, image))
    logits = model.logit_scale.exp() * unit_image @ unit_text.T
    yield golden.case("logits_per_image", logits, 1e-6)


def _keys(folder: Path, name: str, model: CLIP) -> Case:
    path = folder / "clip_keys.json"
    published = json.loads((path if path.is_file() else OWN / path.name).read_text())[name]
    found = {key: list(value.shape) for key, value in model.state_dict().items()}
    differing = {k for k in published.keys() | found.keys() if published.get(k) != found.get(k)}
    return Case(f"{name} keys and shapes", float(len(differing)), 0.0)


def _tokens(golden: Golden) -> Iterator[Case]:
    strings = golden.info["strings"]
    yield golden.case("tokens", tokenize(strings, truncate=True), 0)
    yield golden.case("too_long", np.array([_is_refused(text) for text in strings]), 0)
    for family in ("pascal", "coco"):
        short = tokenize(golden.info[family])[:, : golden.file[f"{family}_tokens"].shape[1]]
        yield golden.case(f"{family}_tokens", short, 0)


def _is_refused(text: str) -> bool:
    try:
        tokenize([text])
    except VocabularyError:
        return True
    return False
