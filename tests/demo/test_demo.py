"""The demo with a small untrained network: what it writes, and how it reports bad input."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from data import weight_files
from data.errors import SettingError
from data.pictures import read_image, read_label
from data.text.vocabulary import from_names
from demo import demo
from demo.options import DemoCommand
from eval.model import DEFAULT_CONFIG, Model
from eval.zegformer.classes import TrainedClasses
from models.clip.clip import CLIP
from models.sazs import networks as sazs
from models.zegformer.config import flat, load
from models.zegformer.network import ZegFormer
from models.zegformer.per_pixel import PerPixelBaseline
from tests.demo.settings import SMALL_ZEGFORMER

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "pascal_voc" / "zegformer_R50_bs32_10k_vit16_voc.yaml"


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    torch.manual_seed(0)
    sizes = {"queries": 5, "dim": 32, "mask_dim": 32, "heads": 2, "layers": 1, "feedforward": 32}
    model = ZegFormer(depth=50, text_dim=16, **sizes)
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")
    np.save(folder / "text.npy", np.random.default_rng(0).standard_normal((3, 16)))
    rng = np.random.default_rng(1)
    (folder / "photos").mkdir()
    for name in ("a.jpg", "b.png"):
        Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(
            folder / "photos" / name
        )
    return folder


def call(words: Sequence[str]) -> int:
    """Exit status of the command; what it prints is logged."""
    result = CliRunner().invoke(demo.main, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    if result.output:
        logging.getLogger("demo").error(result.output.strip())
    return result.exit_code


def small() -> list[object]:
    return [part for pair in SMALL_ZEGFORMER.items() for part in pair]


def run(setting: Path, *given: object, opts: Sequence[object] = ()) -> int:
    return call([
        "--config-file", str(CONFIG), "--checkpoint", str(setting / "model_final.pth"),
        "--classes", "cat, wild horse, sofa", "--embeddings", str(setting / "text.npy"),
        *map(str, given), "--opts", *map(str, opts or small()),
    ])  # fmt: skip


def test_photos_become_overlays_labels_and_scores(setting, tmp_path):
    assert run(setting, "--input", setting / "photos", "--output", tmp_path / "out") == 0
    for stem in ("a", "b"):
        labels = read_label(tmp_path / "out" / f"{stem}_labels.png")
        content = json.loads((tmp_path / "out" / f"{stem}.json").read_text())
        assert labels.shape == (40, 56) == tuple(content["size"])
        assert {entry["id"] for entry in content["classes"]} == set(np.unique(labels))
        assert sum(entry["share"] for entry in content["classes"]) == pytest.approx(1)
        assert {entry["name"] for entry in content["classes"]} <= {"cat", "wild horse", "sofa"}
        assert read_image(tmp_path / "out" / f"{stem}.png").shape == (40, 56, 3)


def test_a_glob_a_single_file_and_existing_output(setting, tmp_path, caplog):
    overlay = tmp_path / "one.png"
    glob = setting / "photos" / "a.*"
    assert run(setting, "--input", glob, "--output", overlay) == 0
    before = overlay.read_bytes()
    assert run(setting, "--input", glob, "--output", overlay) == 1
    assert "one.png exists; give --overwrite" in caplog.text
    assert run(setting, "--input", glob, "--output", overlay, "--overwrite") == 0
    assert overlay.read_bytes() == before


def test_an_image_without_accepted_masks_is_reported(setting, tmp_path, caplog):
    caplog.set_level("INFO")
    given = ("--input", setting / "photos" / "a.jpg", "--output", tmp_path)
    assert run(setting, *given, "--confidence-threshold", "1e9") == 0
    assert "no mask was accepted" in caplog.text
    assert (read_label(tmp_path / "a_labels.png") == 255).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--input", "gone.jpg"), "--input gone.jpg: expected a photo, a folder"),
        (("--video-input", "gone.mp4"), "--video-input gone.mp4: no such file"),
        (("--video-input", __file__), "cannot be opened; it is not a video"),
        (("--input", __file__, "--output", "a.jpg"), "--output a.jpg: expected a folder, or"),
        (("--input", __file__, "--output", f"{__file__}/x"), "test_demo.py is a file, expected a"),
        (("--input", __file__, "--classes", " , "), "--classes: expected at least one class"),
        (("--input", __file__, "--classes", "none.txt"), "cannot read the class names none.txt"),
        (("--input", __file__, "--seen", "dog"), "the words has no class 'dog'"),
    ],
)
def test_bad_input_is_one_line(setting, caplog, given, message):
    assert run(setting, *given) == 1
    assert message in caplog.records[-1].getMessage()
    assert "\n" not in caplog.records[-1].getMessage()


def test_globs_reach_through_folders(tmp_path, monkeypatch):
    for folder in ("x1", "x2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").touch()
    expected = [tmp_path / "x1" / "a.jpg", tmp_path / "x2" / "a.jpg"]
    assert demo.photos([f"{tmp_path}/x*/*.jpg", str(expected[0])]) == expected
    monkeypatch.chdir(tmp_path)
    assert demo.photos(["x?/a.jpg"]) == [Path("x1/a.jpg"), Path("x2/a.jpg")]


def test_photos_with_the_same_name_do_not_overwrite_each_other(setting, tmp_path, caplog):
    (tmp_path / "a.jpg").write_bytes((setting / "photos" / "a.jpg").read_bytes())
    assert run(setting, "--input", tmp_path / "a.jpg", setting / "photos" / "a.jpg") == 1
    assert "would both be written to" in caplog.text


def test_output_is_checked_before_weights_are_read(setting, tmp_path, caplog):
    (tmp_path / "a.png").touch()
    given = ("--input", setting / "photos" / "a.jpg", "--output", tmp_path)
    assert run(setting, *given, "--checkpoint", "gone.pth") == 1
    assert "a.png exists" in caplog.text


def test_words_are_looked_up_in_a_table_of_the_vocabulary(setting, tmp_path, caplog):
    """The table has the 20 rows of VOC; two of the words are among its classes, one is not."""
    table = tmp_path / "voc.npy"
    np.save(table, np.random.default_rng(0).standard_normal((20, 16)))
    given = ("--input", setting / "photos" / "a.jpg", "--output", tmp_path, "--embeddings", table)
    assert run(setting, *given, "--classes", "TV monitor, cat") == 0
    names = {entry["name"] for entry in json.loads((tmp_path / "a.json").read_text())["classes"]}
    assert names <= {"TV monitor", "cat"}
    assert run(setting, *given, "--overwrite", "--classes", "cat, dragon") == 1
    assert "dragon: no text embedding in voc.npy, which has 20 names" in caplog.text


def test_a_pretrained_backbone_alone_is_refused(setting, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the default configuration is found from anywhere
    given = ["--input", setting / "photos", "--output", tmp_path / "out"]
    given += ["--embeddings", setting / "text.npy", "--classes", "cat, dog, cow"]
    assert call(list(map(str, ["--config-file", ROOT / DEFAULT_CONFIG, *given]))) == 1
    assert "R-50.pkl: a backbone to start a training run from" in caplog.text
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "backbone.pth")
    given += ["--opts", "MODEL.WEIGHTS", tmp_path / "backbone.pth"]
    assert call(list(map(str, given))) == 1
    assert "backbone.pth: a backbone to start a training run from" in caplog.text


def test_words_with_masks_in_training_are_matched_by_name():
    trained = from_names(["cat", "couch, sofa", "tvmonitor"])
    model = Model("zegformer", "x", trained, trained, None)
    assert model.vocabulary(["Sofa", "dragon", "tv monitor"]).unseen_ids == [1]
    assert model.vocabulary(["a", "b"], ["b"]).unseen_ids == [0]


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ("--input a b c --output o", "--input a --input b --input c --output o"),
        ("--overwrite --input a", "--overwrite --input a"),
        ("--input a --input b", "--input a --input b"),
        ("--output o x --input a", "--output o x --input a"),
        ("--input a b --opts K 1 L -2 --input c", "--input a --input b"
         " --opts K --opts 1 --opts L --opts -2 --opts --input --opts c"),
        ("--opts", ""),
    ],
)  # fmt: skip
def test_options_with_several_values(given, parsed):
    assert DemoCommand.expand(given.split()) == parsed.split()


def test_exactly_one_input_is_required(setting, tmp_path, caplog):
    assert run(setting) == 2
    assert "give one of --input, --video-input and --webcam" in caplog.text
    assert run(setting, "--input", "a.jpg", "--webcam") == 2
    assert run(setting, "--input", "--output", tmp_path) == 2 == call(["--input"])
    assert "--input needs one or more values" in caplog.text
    assert run(setting, "--no-such-option") == 2
    assert call(["--help"]) == 0 and "KEY VALUE ..." in caplog.text


def test_the_configuration_is_taken_from_the_checkpoint(setting, tmp_path):
    weights = tmp_path / "model.safetensors"
    settings = load(CONFIG, [*map(str, small())])
    state = torch.load(setting / "model_final.pth", weights_only=True)["model"]
    weight_files.write_safetensors(weights, state, {"config": flat(settings)})
    given = ["--input", setting / "photos" / "a.jpg", "--output", tmp_path / "out"]
    words = ["--classes", "cat, dog, cow", "--embeddings", setting / "text.npy"]
    assert call(list(map(str, ["--checkpoint", weights, *given, *words]))) == 0
    assert (tmp_path / "out" / "a.png").is_file()


def test_a_checkpoint_with_a_table_needs_no_other_file(setting, tmp_path, caplog):
    """Class names and text embeddings are stored in it; the files it was made from may be gone."""
    names = ("cat", "dog", "cow")
    table = np.load(setting / "text.npy")
    record = TrainedClasses(from_names(names).holding_out({2}), names[:2], table)
    gone = tmp_path / "gone" / "text.npy"
    settings = load(CONFIG, [*map(str, small()), "MODEL.TEXT_EMBEDDINGS", str(gone)])
    recipe = {"config": flat(settings), **record.recipe()}
    state = torch.load(setting / "model_final.pth", weights_only=True)["model"]
    weight_files.write_safetensors(tmp_path / "moved.safetensors", state, recipe)
    given = [
        "--checkpoint",
        tmp_path / "moved.safetensors",
        "--input",
        setting / "photos" / "a.jpg",
    ]
    given += ["--output", tmp_path / "out", "--overwrite", "--classes"]
    assert call(list(map(str, [*given, "dog, cow"]))) == 0
    assert json.loads((tmp_path / "out" / "a.json").read_text())["classes"]
    assert call(list(map(str, [*given, "dragon"]))) == 1
    assert "dragon: no text embedding in moved.safetensors" in caplog.text
    assert "leave --embeddings out" not in caplog.text


def test_words_are_embedded_by_clip_once(tmp_path, setting, monkeypatch, caplog):
    monkeypatch.setenv("HOME", str(tmp_path))  # the cache of text embeddings
    caplog.set_level("INFO")
    torch.manual_seed(0)
    clip = {"image_size": 32, "width": 64, "layers": 1, "text_width": 64, "text_layers": 1}
    torch.save(CLIP(dim=512, **clip).state_dict(), tmp_path / "clip.pt")
    sizes = {"queries": 5, "dim": 32, "mask_dim": 32, "heads": 2, "layers": 1, "feedforward": 32}
    torch.save(ZegFormer(depth=50, **sizes).state_dict(), tmp_path / "zegformer.pth")
    given = [
        "--config-file", CONFIG, "--checkpoint", tmp_path / "zegformer.pth", "--overwrite",
        "--input", setting / "photos" / "a.jpg", "--output", tmp_path / "out",
        "--classes", "a word that no list has, dragon", "--opts", *small(),
        "MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED", tmp_path / "clip.pt",
    ]  # fmt: skip
    assert call(list(map(str, given))) == 0
    assert "clip.pt: " in caplog.text and "tensors loaded" in caplog.text
    first = (tmp_path / "out" / "a_labels.png").read_bytes()
    caplog.clear()
    assert call(list(map(str, given))) == 0
    assert "clip.pt: " not in caplog.text
    assert (tmp_path / "out" / "a_labels.png").read_bytes() == first


def test_the_per_pixel_baseline_segments_photos(setting, tmp_path, caplog):
    torch.manual_seed(0)
    model = PerPixelBaseline(depth=50, width=32, text_dim=16)
    torch.save({"model": model.state_dict()}, tmp_path / "baseline.pth")
    given = ("--input", setting / "photos" / "a.jpg", "--output", tmp_path / "out")
    given += ("--checkpoint", tmp_path / "baseline.pth")
    assert run(setting, *given) == 1
    assert "SemanticSegmentorGzero for the per-pixel baseline" in caplog.text
    opts = [*small(), "MODEL.META_ARCHITECTURE", "SemanticSegmentorGzero"]
    assert run(setting, *given, opts=opts) == 0
    content = json.loads((tmp_path / "out" / "a.json").read_text())
    assert sum(entry["share"] for entry in content["classes"]) == pytest.approx(1)
    # Probabilities of three classes.
    assert all(1 / 3 <= entry["score"] <= 1 for entry in content["classes"])


def test_sazs_segments_photos(setting, tmp_path, caplog):
    weights = tmp_path / "sazs.safetensors"
    torch.manual_seed(0)
    weight_files.write_safetensors(weights, sazs.build("drn_d_22_slim").state_dict(), {})
    np.save(tmp_path / "text.npy", np.random.default_rng(0).standard_normal((3, 512)))
    given = [
        "--checkpoint", weights, "--input", setting / "photos" / "a.jpg", "--input-side", "64",
        "--classes", "cat, dog", "--embeddings", tmp_path / "text.npy", "--output", tmp_path / "o",
    ]  # fmt: skip
    assert call(list(map(str, given))) == 1
    assert "give --arch" in caplog.text
    assert call(list(map(str, [*given, "--arch", "drn_d_22_slim"]))) == 0
    assert read_label(tmp_path / "o" / "a_labels.png").shape == (40, 56)


def test_unreadable_photos_are_skipped(setting, tmp_path, caplog):
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    good = setting / "photos" / "a.jpg"
    assert run(setting, "--input", tmp_path / "bad.jpg", good, "--output", tmp_path / "out") == 0
    assert "skipped: " in caplog.text and (tmp_path / "out" / "a.png").is_file()
    assert run(setting, "--input", tmp_path / "bad.jpg", "--output", tmp_path / "no") == 1


def test_video_is_written_frame_by_frame(setting, tmp_path, monkeypatch, caplog):
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video")
    for value in (0, 120, 240):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    assert run(setting, "--video-input", clip, "--output", tmp_path / "out") == 0
    capture = cv2.VideoCapture(str(tmp_path / "out" / "clip.mp4"))
    assert sum(1 for _ in iter(lambda: capture.read()[0], False)) == 3
    capture.release()
    assert run(setting, "--video-input", clip, "--output", tmp_path / "out") == 1
    assert run(setting, "--video-input", clip, "--output", tmp_path / "out.png") == 1
    assert "out.png: expected a folder, or a file that ends in .mp4" in caplog.text
    assert run(setting, "--video-input", clip, "--output", clip / "out.mp4") == 1
    assert "clip.avi is a file, expected a folder" in caplog.text
    monkeypatch.setattr(demo, "_writer", lambda *_: Full())
    assert run(setting, "--video-input", clip, "--output", tmp_path / "full.mp4") == 1
    assert "full.mp4: 0 of 3 frames were written; is the disk full?" in caplog.text


class Full:
    """A writer to a full disk, as silent as OpenCV's."""

    def write(self, frame):
        pass

    def release(self):
        pass


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("x.png", ("--output", "."), "x.png: would overwrite an input; give another --output"),
        ("n" * 251 + ".jpg", ("--output", "out"), "this name would be too long; rename the input"),
        ("x.png", ("--output", "kept"), "x_labels.png exists; give --overwrite"),
        ("x.png", ("--output", "new", "--confidence-threshold", "nan"), "expected a number, found"),
        ("x.png", ("--output", ""), "expected a path, found an empty text"),
        ("~nobody/x.png", (), "--input ~nobody/x.png: expected a photo, a folder"),
    ],
)
def test_no_file_of_the_user_is_overwritten(
    setting, tmp_path, monkeypatch, caplog, name, given, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "x_labels.png").write_text("mine")
    if "/" not in name:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    more = ("--overwrite",) if "would overwrite" in message else ()
    assert run(setting, "--input", name, *given, *more) in (1, 2)
    assert message in caplog.text
    assert (tmp_path / "kept" / "x_labels.png").read_text() == "mine"


def test_hidden_files_of_a_folder_are_no_photos(tmp_path):
    for name in ("a.jpg", "._a.jpg"):
        (tmp_path / name).touch()
    assert demo.photos([str(tmp_path)]) == [tmp_path / "a.jpg"]


def test_a_video_that_is_not_whole_replaces_none(tmp_path, monkeypatch):
    (tmp_path / "v.mp4").write_bytes(b"an older one")
    monkeypatch.setattr(demo, "_segment_frames", lambda *_: 3)
    with pytest.raises(SettingError, match=r"v.mp4: 0 of 3 frames were written"):
        demo.run_video(None, tmp_path / "v.mp4", None, None)
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]
    assert (tmp_path / "v.mp4").read_bytes() == b"an older one"
