"""From configuration to what predicts: the precision that CLIP runs in."""

from __future__ import annotations

import pytest
import torch

from data.errors import WeightsError
from data.text.vocabulary import from_names
from eval.zegformer import build as zegformer_build
from eval.zegformer.classes import NamedClasses, clip_source, text
from models.clip.clip import CLIP
from models.zegformer.config import replaced
from models.zegformer.network import ZegFormer
from models.zegformer.settings import ZegFormerSettings


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # the cache of text embeddings
    torch.manual_seed(0)
    sizes = {"image_size": 32, "width": 64, "layers": 2, "text_width": 64, "text_layers": 1}
    torch.save(CLIP(dim=24, **sizes).state_dict(), tmp_path / "clip.pt")
    own = {
        "MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED": str(tmp_path / "clip.pt"),
        "MODEL.SEM_SEG_HEAD.CLIP_CLASSIFICATION": True,
        "MODEL.MASK_FORMER.ENSEMBLING_ALL_CLS": True,
    }
    return replaced(ZegFormerSettings(), own)


def test_a_file_of_another_clip_is_refused(settings, tmp_path):
    sizes = {"image_size": 64, "width": 64, "layers": 1, "text_width": 64, "text_layers": 1}
    torch.save(CLIP(dim=24, patch=32, **sizes).state_dict(), tmp_path / "clip.pt")
    words = from_names(["cat"])
    with pytest.raises(WeightsError, match=r"clip\.pt: expected .* 16 pixels, found 32: .*B/16"):
        text(settings, NamedClasses(words, words, [0]), torch.device("cpu"))
    by_name = replaced(settings, {"MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED": "ViT-B/32"})
    assert clip_source(by_name).patch is None


def test_half_on_a_processor_is_bfloat16_for_pictures_and_float32_for_texts(settings):
    words = from_names(["cat", "dog, hound", "cow"])
    classes = NamedClasses(words, words, [0, 1, 2])
    small = {"queries": 7, "dim": 32, "mask_dim": 32, "heads": 2, "layers": 1, "feedforward": 32}
    model = ZegFormer(depth=14, text_dim=24, **small)
    full = zegformer_build.segmenter(settings, model, classes)
    half = zegformer_build.segmenter(replaced(settings, {"MODEL.CLIP_HALF": True}), model, classes)
    assert half.clip.dtype == torch.bfloat16
    assert half.clip.visual.ln_pre.weight.dtype == torch.float32
    assert torch.equal(half.classes.text, full.classes.text)
    assert torch.equal(half.classes.crop_text, full.classes.crop_text)
    photo = torch.randint(0, 256, (3, 40, 70), dtype=torch.uint8)
    (expected,), (found,) = full.segments([photo]), half.segments([photo])
    assert not torch.equal(found.scores, expected.scores)
    torch.testing.assert_close(found.scores, expected.scores, atol=0.02, rtol=0)
