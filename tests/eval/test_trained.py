"""Trained networks opened by `eigenshape.load`, and images segmented by words."""

import numpy as np
import pytest
import torch
from PIL import Image

import eigenshape as es
from data import weight_files
from data.text.vocabulary import from_names
from eval.zegformer.classes import TrainedClasses
from models.sazs import networks as sazs
from models.zegformer.config import flat, load
from models.zegformer.network import ZegFormer
from tests.demo.settings import SMALL_ZEGFORMER
from tests.demo.test_demo import CONFIG
from tests.pictures import scene

WORDS = ["cat", "sofa", "bus"]


@pytest.fixture(scope="module")
def image():
    return scene(48, 64)


def trained(folder):
    """Weights of a small untrained network of each system; ZegFormer's with its embeddings."""
    torch.manual_seed(0)
    paths = {kind: folder / f"{kind}.safetensors" for kind in ("sazs", "zegformer")}
    state = sazs.build("drn_d_22_slim").state_dict()
    weight_files.write_safetensors(paths["sazs"], state, {"arch": "drn_d_22_slim"})
    sizes = {"queries": 5, "dim": 32, "mask_dim": 32, "heads": 2, "layers": 1, "feedforward": 32}
    network = ZegFormer(depth=50, text_dim=16, **sizes)
    settings = load(CONFIG, [str(part) for pair in SMALL_ZEGFORMER.items() for part in pair])
    table = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    names = TrainedClasses(from_names(WORDS), ("cat",), table)
    recipe = {"config": flat(settings), **names.recipe()}
    weight_files.write_safetensors(paths["zegformer"], network.state_dict(), recipe)
    return paths


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    paths = trained(folder)
    np.save(folder / "text.npy", np.random.default_rng(1).standard_normal((3, 512)))
    table = {"classes": WORDS, "embeddings": folder / "text.npy"}
    return {
        "sazs": es.load(paths["sazs"], device="cpu", **table),
        "zegformer": es.load(paths["zegformer"], device="cpu"),
        "folder": folder,
    }


@pytest.mark.parametrize("kind", ["sazs", "zegformer"])
def test_the_system_is_recognised_and_an_image_segmented(models, image, tmp_path, kind):
    model = models[kind]
    assert repr(model).startswith(f"Model('{kind}', '{kind}.safetensors', ")
    labels = es.segment(image, ["sofa", "cat"], model)
    assert labels.shape == (48, 64) and labels.dtype == np.int32
    assert set(np.unique(labels)) <= {0, 1, 2}
    Image.fromarray(image).save(tmp_path / "a.png")
    assert np.array_equal(es.segment(tmp_path / "a.png", ["sofa", "cat"], model), labels)
    swapped = es.segment(image, ["cat", "sofa"], model)
    if kind == "sazs":  # each word has a mask of its own, whatever the others are
        assert np.array_equal(np.array([0, 2, 1])[swapped], labels)


@pytest.mark.parametrize("kind", ["sazs", "zegformer"])
def test_eigenpairs_take_part(models, image, kind):
    pairs = es.eigenvectors(image, "lowlevel8", k=5)
    plain = es.segment(image, WORDS, models[kind])
    fused = es.segment(image, WORDS, models[kind], eigenpairs=pairs)
    assert fused.shape == plain.shape and set(np.unique(fused)) <= {0, 1, 2, 3}
    if kind == "sazs":
        from data.text.embeddings import load_embeddings
        from eval.sazs.segmenter import SazsSegmenter, segment
        from models.sazs.load import load as load_sazs

        network, _ = load_sazs(models["folder"] / "sazs.safetensors")
        rows = torch.from_numpy(load_embeddings(models["folder"] / "text.npy"))
        texts = torch.cat([torch.zeros_like(rows[:1]), rows])
        expected = segment(image, texts, SazsSegmenter(network), eigenpairs=pairs)
        assert np.array_equal(fused, expected)
        assert np.array_equal(plain, segment(image, texts, SazsSegmenter(network)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((4, 4, 3), np.float32)}, "image: expected the path"),
        ({"words": "cat"}, r"words: expected a list such as \['cat'\]"),
        ({"words": []}, "at least one class name"),
        ({"words": ["cat", "cat"]}, "'cat' twice"),
        ({"words": ["cat", "dragon"]}, "dragon: no text embedding"),
        ({"model": "model.safetensors"}, "model: expected what `load` returns, found str"),
        ({"eigenpairs": "other"}, r"eigenpairs: of an image of \(40, 64\) pixels"),
    ],
)
@pytest.mark.parametrize("kind", ["sazs", "zegformer"])
def test_what_does_not_fit_is_refused(models, image, kind, change, message):
    given = {"image": image, "words": WORDS, "model": models[kind], **change}
    if "eigenpairs" in given:
        given["eigenpairs"] = es.eigenvectors(image[:40], "lowlevel8", k=2)
    with pytest.raises(es.EigenshapeError, match=message):
        es.segment(**given)


def test_files_that_are_no_network_are_refused(models, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    for path in (tmp_path / "a.safetensors", tmp_path / "gone.pth", models["folder"] / "text.npy"):
        with pytest.raises(es.EigenshapeError, match=path.name):
            es.load(path)
    with pytest.raises(es.EigenshapeError, match="a configuration of ZegFormer, but the check"):
        es.load(models["folder"] / "sazs.safetensors", config=CONFIG)
