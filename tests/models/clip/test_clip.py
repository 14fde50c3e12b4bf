"""CLIP: golden towers and tokens, every file it comes in, embeddings and their cache."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from data import weight_files
from data.errors import VocabularyError, WeightsError
from models.clip import weights as clip_weights
from models.clip.clip import CLIP, CONTEXT_LENGTH, sizes_of, tokenize
from models.clip.prompts import templates
from models.clip.text import class_embeddings, encode_classes, encode_texts, text_embeddings
from models.clip.weights import ClipSource
from tests.parity import clip as family

GOLDEN = Path(__file__).parents[2] / "golden"


def small() -> CLIP:
    torch.manual_seed(5)
    model = CLIP(image_size=32, patch=16, width=64, layers=2, text_width=64, text_layers=2, dim=24)
    return model.eval()


@pytest.fixture
def donor():
    return small()


@pytest.mark.slow
def test_goldens(tmp_path):
    # ViT-B/16 is held to its goldens by the ZegFormer tests.
    for name in ("clip_vitb32.npz", "clip_tokens.npz", "clip_keys.json"):
        (tmp_path / name).symlink_to(GOLDEN / name)
    results = list(family.cases(tmp_path))
    assert len(results) == 9
    assert [case for case in results if not case.passed] == []


@given(st.lists(st.text(max_size=40), max_size=5))
@settings(max_examples=50)
def test_a_text_has_one_row_whatever_its_neighbours(texts):
    rows = tokenize(texts, truncate=True)
    assert rows.shape == (len(texts), CONTEXT_LENGTH)
    for row, text in zip(rows, texts, strict=True):
        assert torch.equal(row, tokenize([text], truncate=True)[0])
        assert (row == 49407).any()


def test_a_long_text_is_named():
    with pytest.raises(VocabularyError, match=r"'dog dog.*at most 77"):
        tokenize(["dog " * 80])


def test_cutting_to_the_longest_text_changes_nothing(donor):
    short, long = tokenize(["a cat"]), tokenize(["a cat", "a much longer text about a cat"])
    torch.testing.assert_close(donor.encode_text(short)[0], donor.encode_text(long)[0])


def test_sizes_are_read_off_the_weights(donor):
    assert sizes_of(donor.state_dict()) == {
        "image_size": 32, "patch": 16, "width": 64, "layers": 2,
        "text_width": 64, "text_layers": 2, "vocabulary": 49408, "dim": 24,
    }  # fmt: skip


def _written(folder: Path, donor: CLIP, kind: str) -> Path:
    state = donor.state_dict()
    if kind == "safetensors":
        save_file(state, folder / "clip.safetensors")
        return folder / "clip.safetensors"
    prefix = "sem_seg_head.predictor.clip_model." if kind == "zegformer" else ""
    weights = {prefix + key: value for key, value in state.items()}
    if kind == "zegformer":
        weights = {"model": weights | {"backbone.stem.conv1.weight": torch.zeros(2)}}
    torch.save(weights, folder / "clip.pth")
    return folder / "clip.pth"


@pytest.mark.parametrize("kind", ["safetensors", "bare", "zegformer"])
def test_every_wrapping_is_read(tmp_path, donor, kind):
    found = ClipSource(str(_written(tmp_path, donor, kind))).load()
    assert not any(p.requires_grad for p in found.parameters())
    for key, value in donor.state_dict().items():
        assert torch.equal(found.state_dict()[key], value), key


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.jit is deprecated
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torchscript_archive_is_read_without_torchscript(tmp_path, donor):
    class Published(torch.nn.Module):
        """As the published archives: towers, and numbers that are no weights."""

        def __init__(self) -> None:
            super().__init__()
            self.__dict__["_modules"] = dict(donor.named_children())
            for name, value in donor.named_parameters(recurse=False):
                self.register_parameter(name, torch.nn.Parameter(value.detach().half()))
            self.register_buffer("input_resolution", torch.tensor(32))

        def forward(self, images):
            return self.visual(images)

    example = torch.zeros(1, 3, 32, 32)
    torch.jit.trace(Published().eval(), example, check_trace=False).save(tmp_path / "clip.pt")
    assert weight_files.read(tmp_path / "clip.pt").kind == "torchscript"
    found = ClipSource(str(tmp_path / "clip.pt")).load().state_dict()
    assert torch.equal(found["visual.conv1.weight"], donor.visual.conv1.weight)
    assert torch.equal(found["text_projection"], donor.text_projection.half().float())


def test_torchscript_archive_that_wants_code_is_refused(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (eval, ("1 + 1",))

    with zipfile.ZipFile(tmp_path / "clip.pt", "w") as archive:
        archive.writestr("clip/data.pkl", pickle.dumps(Malicious()))
        archive.writestr("clip/code/__torch__/x.py", "")
    with pytest.raises(WeightsError, match=r"would run builtins\.eval"):
        ClipSource(str(tmp_path / "clip.pt")).load()


def test_published_name_on_other_content_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(clip_weights, "CACHE", tmp_path)
    (tmp_path / "ViT-B-16.pt").write_bytes(b"truncated")
    with pytest.raises(WeightsError, match=r"not OpenAI's ViT-B/16 file.*5806e77c"):
        ClipSource("ViT-B/16").load()


def test_unreachable_weights_say_where_to_put_the_file(tmp_path, monkeypatch):
    from open_clip import pretrained

    def fail(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(clip_weights, "CACHE", tmp_path)
    monkeypatch.setattr(pretrained, "download_pretrained", fail)
    with pytest.raises(WeightsError, match=r"no network.*Put OpenAI's file at .*ViT-B-16\.pt"):
        ClipSource("ViT-B/16").load()


def test_other_files_are_refused(tmp_path):
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
    with pytest.raises(WeightsError, match=r"resnet\.pth: no CLIP.*visual\.conv1\.weight"):
        ClipSource(str(tmp_path / "resnet.pth")).load()
    with pytest.raises(WeightsError, match=r"no such file, and none of.*ViT-B/32"):
        ClipSource("ViT-Z/1").load()


def test_half_keeps_layer_norms_wide(tmp_path, donor):
    path = _written(tmp_path, donor, "bare")
    full, half = ClipSource(str(path)).load(), ClipSource(str(path)).load(half=True)
    assert half.visual.ln_pre.weight.dtype == torch.float32
    assert half.visual.conv1.weight.dtype == torch.float16
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(
        half.encode_image(images).float(), full.encode_image(images), atol=1e-2, rtol=0
    )


def test_ensemble_is_the_unit_mean_of_unit_features(donor):
    names, sets = ["cat", "tv, television set"], ("a {}.", "the {}")
    texts = ["a tv.", "a television set.", "the tv", "the television set"]
    features = encode_texts(donor, texts)
    mean = (features / features.norm(dim=1, keepdim=True)).mean(0)
    found = encode_classes(donor, names, sets)
    torch.testing.assert_close(found[1], mean / mean.norm())
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))


def test_order_and_batching_of_texts_do_not_matter(donor):
    texts = ["others", "a very long description of a brown horse", "cat", "dining table"]
    one_by_one = torch.cat([encode_texts(donor, [text]) for text in texts])
    torch.testing.assert_close(encode_texts(donor, texts, batch=3), one_by_one)


def test_cache_answers_without_clip_and_knows_what_it_holds(tmp_path, donor, monkeypatch):
    path = _written(tmp_path, donor, "bare")
    source, cache = ClipSource(str(path)), tmp_path / "cache"
    first = class_embeddings(["cat"], ("a {}",), source, cache=cache)
    bare = text_embeddings(["others", "cat"], source, cache=cache)
    assert bare.shape == (2, 24)
    assert not torch.allclose(bare.norm(dim=1), torch.ones(2))

    loads: list[ClipSource] = []
    load = ClipSource.load
    monkeypatch.setattr(ClipSource, "load", lambda self, *a, **k: loads.append(self) or load(self))
    assert torch.equal(class_embeddings(["cat"], ("a {}",), source, cache=cache), first)
    assert loads == []
    class_embeddings(["cat"], ("the {}",), source, cache=cache)
    class_embeddings(["dog"], ("a {}",), source, cache=cache)
    assert len(loads) == 2
    for file in cache.iterdir():
        file.write_bytes(b"damaged")
    assert torch.equal(class_embeddings(["cat"], ("a {}",), source, cache=cache), first)
    assert len(loads) == 3


def test_prompt_sets():
    counts = {"none": 1, "single": 1, "imagenet_select": 8, "imagenet": 80, "crops": 32}
    file = np.load(GOLDEN / "zegformer-text.npz")
    assert counts["imagenet"] == file["templates.imagenet.count"]
    for name, count in counts.items():
        assert len(set(templates(name))) == count
        assert all(template.count("{}") == 1 for template in templates(name))
    with pytest.raises(VocabularyError, match=r"vild.*imagenet_select"):
        templates("vild")
