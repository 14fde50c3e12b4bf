"""The whole of ZegFormer against the numbers printed in its specification.

They were made with the published program on weights from a hash of their keys' lengths, another
draw than that of the golden files: ResNet-50, 12 queries, random texts.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from eval.zegformer.segmenter import Classes, Scoring, Segmenter
from models.clip.clip import CLIP
from models.zegformer.network import ZegFormer, normalised_batch


def hashed(n: int, salt: int) -> np.ndarray:
    """n numbers in [-0.5, 0.5), float64."""
    x = (np.arange(1, n + 1, dtype=np.uint64) * 2654435761 + 40503 * salt) & 0xFFFFFFFF
    for _ in range(2):
        x ^= x >> np.uint64(16)
        x = (x * 0x45D9F3B) & 0xFFFFFFFF
    x ^= x >> np.uint64(16)
    return x / 2**32 - 0.5


def filled(model: torch.nn.Module, prefix: str = "") -> torch.nn.Module:
    state = {}
    for key, value in model.state_dict().items():
        shape, salt = tuple(value.shape), len(prefix + key)
        if key.endswith("logit_scale"):
            drawn = np.full(shape, math.log(100))
        elif key.endswith("running_mean"):
            drawn = np.zeros(shape)
        elif key.endswith("running_var") or (len(shape) == 1 and key.endswith(".weight")):
            drawn = np.ones(shape)
        else:
            scale = 0.04 if len(shape) < 2 else math.sqrt(12 / np.prod(shape[1:]))
            drawn = scale * hashed(int(np.prod(shape)), salt).reshape(shape)
        state[key] = torch.from_numpy(np.asarray(drawn, np.float32))
    model.load_state_dict(state)
    return model.eval()


def unit_rows(salt: int) -> torch.Tensor:
    rows = torch.from_numpy(hashed(171 * 512, salt).reshape(171, 512).astype(np.float32))
    return torch.nn.functional.normalize(rows, dim=1)


def near(*values: float) -> object:
    return pytest.approx(values, rel=1e-3, abs=1e-5)


def test_the_hash_is_the_printed_one():
    assert tuple(hashed(4, 7)) == near(0.01657635, -0.0790916, -0.47491849, -0.38811231)


@pytest.mark.slow
def test_network_and_both_ways_of_scoring():
    c, y, x = np.ogrid[:3, :150, :201]
    image = torch.from_numpy(((37 * c + 5 * y + 3 * x + x * y // 7) % 256).astype(np.uint8))
    model = filled(ZegFormer(depth=50, queries=12))
    unseen = torch.arange(171) >= 156
    classes = Classes(unit_rows(11), unseen, unit_rows(13))
    with torch.no_grad():
        batch = normalised_batch([image])
        features = model.backbone(batch)
        first, *_, last = model(batch, classes.text, every_layer=True)
    figures = [(float(f.mean()), float(f.std())) for f in features.values()]
    assert figures[0] == near(1.206466, 1.686086)
    assert figures[1] == near(1.804525, 2.338691)
    assert figures[2] == near(4.058105, 5.544629)
    assert figures[3] == near(4.757617, 6.367498)
    assert features["res5"].shape == (1, 2048, 5, 7)
    assert tuple(features["res3"].flatten()[:3].tolist()) == near(0.688732, 0.950837, 0)
    logits, masks = last.logits, last.masks
    assert tuple(logits[0, 0, :4].tolist()) == near(-8.286628, -2.937181, -1.853827, -4.113328)
    assert tuple(logits[0, 11, -2:].tolist()) == near(5.932117, 5.022494)
    assert (float(logits.mean()), float(logits.std())) == near(0.252458, 4.755530)
    assert tuple(masks[0, 0, 0, :4].tolist()) == near(1.501213, -0.564592, -0.479610, -0.527094)
    assert masks.shape == (1, 12, 40, 56)
    assert (float(masks.mean()), float(masks.std())) == near(-1.646960, 2.436242)
    assert float((masks > 0).float().mean()) == pytest.approx(0.24256, abs=1e-4)
    assert tuple(first.logits[0, 0, :3].tolist()) == near(-8.433722, -1.762731, -2.638842)

    clip = filled(CLIP(), "sem_seg_head.predictor.clip_model.").requires_grad_(False)
    assert isinstance(clip, CLIP)
    for mode, total, largest, counts in (
        ("query", -245346.33, 8.73796, {34: 19713, 161: 687}),
        ("ensemble", -297368.06, 1.69194, {34: 16064, 161: 4336}),
    ):
        segmenter = Segmenter(model, classes, clip=clip, scoring=Scoring(mode=mode))
        (found,) = segmenter.segments([image])
        maps = segmenter.maps(found, (120, 170))
        assert (float(maps.double().sum()), float(maps.max())) == near(total, largest)
        labels, pixels = np.unique(segmenter.labels(found, (120, 170)), return_counts=True)
        histogram = dict(zip(labels.tolist(), pixels.tolist(), strict=True))
        assert histogram.keys() == counts.keys()
        assert all(abs(histogram[c] - n) <= 5 for c, n in counts.items())
