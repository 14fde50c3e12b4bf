"""From configuration to what predicts: the precision that CLIP runs in."""

from __future__ import annotations

import pytest
import torch

from data.errors import SettingError, WeightsError
from data.text.vocabulary import from_names
from eval.zegformer import build as zegformer_build
from eval.zegformer.build import KEYS, NamedClasses
from models.clip.clip import CLIP
from models.zegformer.network import ZegFormer


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # the cache of text embeddings
    torch.manual_seed(0)
    sizes = {"image_size": 32, "width": 64, "layers": 2, "text_width": 64, "text_layers": 1}
    torch.save(CLIP(dim=24, **sizes).state_dict(), tmp_path / "clip.pt")
    own = {
        "MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED": str(tmp_path / "clip.pt"),
        "MODEL.SEM_SEG_HEAD.CLIP_CLASSIFICATION": True,
        "MODEL.MASK_FORMER.ENSEMBLING_ALL_CLS": True,
    }
    return {**KEYS.live, **own}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.META_ARCHITECTURE", "Mask", "MODEL.META_ARCHITECTURE 'Mask': choose MaskFormer, S"),
        ("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.DEPTH 18: choose 14, 50, 101"),
        ("INPUT.MIN_SIZE_TEST", 0, "INPUT.MIN_SIZE_TEST: expected at least 1, found 0"),
        ("MODEL.MASK_FORMER.NHEADS", -8, "NHEADS: expected at least 1, found -8"),
        ("MODEL.MASK_FORMER.NHEADS", 3, "NHEADS 3: expected a divisor of 256"),
        ("INPUT.CROP.SIZE", [999, 9], "INPUT.CROP.SIZE 999 exceeds INPUT.SIZE_DIVISIBILITY 640"),
    ],
)
def test_what_cannot_be_built_is_refused(key, value, message):
    assert zegformer_build.checked(dict(KEYS.live)) == KEYS.live
    with pytest.raises(SettingError, match=message):
        zegformer_build.checked({**KEYS.live, key: value})


def test_a_file_of_another_clip_is_refused(config, tmp_path):
    sizes = {"image_size": 64, "width": 64, "layers": 1, "text_width": 64, "text_layers": 1}
    torch.save(CLIP(dim=24, patch=32, **sizes).state_dict(), tmp_path / "clip.pt")
    words = from_names(["cat"])
    with pytest.raises(WeightsError, match=r"clip\.pt: expected .* 16 pixels, found 32: .*B/16"):
        zegformer_build.text(config, NamedClasses(words, words, [0]), torch.device("cpu"))
    by_name = config | {"MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED": "ViT-B/32"}
    assert zegformer_build.clip_source(by_name).patch is None


def test_half_on_a_processor_is_bfloat16_for_pictures_and_float32_for_texts(config):
    words = from_names(["cat", "dog, hound", "cow"])
    classes = NamedClasses(words, words, [0, 1, 2])
    small = {"queries": 7, "dim": 32, "mask_dim": 32, "heads": 2, "layers": 1, "feedforward": 32}
    model = ZegFormer(depth=14, text_dim=24, **small)
    full = zegformer_build.segmenter(config, model, classes)
    half = zegformer_build.segmenter(config | {"MODEL.CLIP_HALF": True}, model, classes)
    assert half.clip.dtype == torch.bfloat16
    assert half.clip.visual.ln_pre.weight.dtype == torch.float32
    assert torch.equal(half.classes.text, full.classes.text)
    assert torch.equal(half.classes.crop_text, full.classes.crop_text)
    photo = torch.randint(0, 256, (3, 40, 70), dtype=torch.uint8)
    (expected,), (found,) = full.segments([photo]), half.segments([photo])
    assert not torch.equal(found.scores, expected.scores)
    torch.testing.assert_close(found.scores, expected.scores, atol=0.02, rtol=0)
