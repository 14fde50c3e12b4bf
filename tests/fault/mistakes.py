"""The mistakes of `tests.fault.acts`: what is in the folder, what is typed, what has to be said."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
_RNG = np.random.default_rng(0)
PHOTOS, SAZS, ZEGFORMER = "photos and results", "a SAZS run", "a ZegFormer run"

Prepare = Callable[[Path], Any]


@dataclass(frozen=True)
class Act:
    """A mistake.

    Attributes
    ----------
    name : str
    needs : str
        Which folder it is made in.
    words : tuple of str
        The command line.
    says : str
        What its one line of error contains.
    prepare : callable
        Puts the folder into the state in which the command is typed.
    """

    name: str
    needs: str
    words: tuple[str, ...]
    says: str
    prepare: Prepare = lambda folder: None


def _file(name: str, content: bytes) -> Prepare:
    def prepare(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return prepare


def _table(rows: int, width: int) -> Prepare:
    return lambda folder: np.save(folder / "w.npy", _RNG.random((rows, width)))


def _with(words: tuple[str, ...], **changes: str) -> tuple[str, ...]:
    """The words with other values for some options, `data_dir` for --data-dir."""
    changed = list(words)
    for option, value in changes.items():
        name = f"--{option}" if f"--{option}" in changed else f"--{option.replace('_', '-')}"
        changed[changed.index(name) + 1] = value
    return tuple(changed)


# Stages on a user's own masks and photos.

_HERE = ("--dataset", "folder", "--results-root", "results")
_NAMES = ("pipeline", "--quiet", "names", *_HERE, "--folder", "photos")
_MASKS = (*_NAMES, "--masks", "m")


def _label(shape: tuple[int, int] = (48, 64), name: str = "photo 0é.png") -> Prepare:
    def prepare(folder: Path) -> None:
        (folder / "m").mkdir(exist_ok=True)
        Image.fromarray(np.zeros(shape, np.uint8)).save(folder / "m" / name, "PNG")

    return prepare


def _coco(segmentation: Any) -> Prepare:
    entry = {"image_id": "photo 0é", "segmentation": segmentation}
    return _file("m", json.dumps([entry]).encode())


def _rgb(folder: Path) -> None:
    (folder / "m").mkdir()
    Image.new("RGB", (64, 48)).save(folder / "m" / "photo 0é.png")


def _pipe(folder: Path) -> None:
    (folder / "m").mkdir()
    os.mkfifo(folder / "m" / "photo 0é.png")


def _read_only(name: str) -> Prepare:
    def prepare(folder: Path) -> None:
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name).chmod(0o555)

    return prepare


def _without(name: str) -> Prepare:
    def prepare(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return prepare


def _cut(name: str) -> Prepare:
    def prepare(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return prepare


def _unlisted(folder: Path) -> None:
    from pipeline import manifest

    path = folder / "results/folder/manifest.csv"
    manifest.write(path, [entry for entry in manifest.read(path) if entry.id != "photo 0é"])


_OF_MASKS = (
    ("masks that are not there", "no such file or folder", None),
    ("masks: an empty folder", "expected label maps", lambda folder: (folder / "m").mkdir()),
    (
        "masks of another size",
        "label map of 7 x 11 pixels for an image of 64 x 48",
        _label((11, 7)),
    ),
    ("masks of an unknown image", "found some of stranger", _label(name="stranger.png")),
    ("masks in colours", "is not a label map", _rgb),
    ("masks of no byte", "the file is empty", _file("m/photo 0é.png", b"")),
    ("masks of text", "is not an image of a known format", _file("m/photo 0é.png", b"text")),
    ("masks in a pipe", "expected a regular file, found a pipe", _pipe),
    ("COCO: a polygon with NaN", "expected a polygon", _coco([[float("nan"), 1, 2, 3, 4, 5]])),
    ("COCO: a polygon far away", "expected a polygon", _coco([[1e12, 1, 2, -1e12, 4, 5]])),
    ("COCO: no polygon", "neither run lengths nor polygons", _coco([])),
    ("COCO: a giant mask", "for an image of", _coco({"size": [10**6, 10**6], "counts": [1]})),
    ("COCO: too few run lengths", "run lengths of", _coco({"size": [48, 64], "counts": [1]})),
    ("COCO: half a file", "cannot be read as JSON", _file("m", b"[")),
    ("COCO: deep JSON", "cannot be read as JSON", _file("m", b"[" * 99999)),
)
_STAGES = tuple(
    Act(f"{stage}: {name}", PHOTOS, ("pipeline", "--quiet", stage, *_HERE, *words), says, prepare)
    for stage in ("objects", "segments")
    for words in [("--extractor", "lowlevel8")]
    for name, says, prepare in (
        ("an image that is not listed", "is not in the manifest", _unlisted),
        ("a shard cut", "expected", _cut("results/folder/eigenvectors/shard-00000.h5")),
        ("a shard gone", "missing", _without("results/folder/eigenvectors/shard-00000.h5")),
        ("no results", "manifest.csv", _without("results")),
    )
)
_OF_STAGES = (
    *(
        Act(name, PHOTOS, _MASKS, says, prepare or (lambda folder: None))
        for name, says, prepare in _OF_MASKS
    ),
    *_STAGES,
    Act("names: a label map gone", PHOTOS, _NAMES, "label maps are missing",
        _without("results/folder/segments/photo 0é.png")),
    Act("names: no segments", PHOTOS, _NAMES, "no such file or folder",
        _without("results/folder/segments")),
    Act("names: a folder that may not be written", PHOTOS, _NAMES, "cannot write",
        _read_only("results/folder/names")),
    Act("words: a comma", PHOTOS, (*_NAMES, "--words", ","), "words: expected at least one"),
    Act("words: twice in a file", PHOTOS, (*_NAMES, "--words", "w.txt"), "found 'cat' twice",
        _file("w.txt", b"\xef\xbb\xbfcat\r\ncat\r\n")),
    Act("words: unknown", PHOTOS, (*_NAMES, "--words", "florble"), "'florble' is none of"),
    Act("a namer that is misspelt", PHOTOS, (*_NAMES, "--namer", "clap"), "namer: expected one of"),
    Act("a score above one", PHOTOS, (*_NAMES, "--least-name-score", "2"), "from 0 to 1; found 2"),
    Act("clusters without segments", PHOTOS,
        ("pipeline", "--quiet", "clusters", *_HERE, "--folder", "photos"), "no such file",
        _without("results/folder/segments")),
    Act("a thousand workers", PHOTOS,
        ("pipeline", "objects", *_HERE, "--workers", "1000"), "--workers: expected at most"),
    Act("an unknown data set", PHOTOS, ("pipeline", "objects", "--dataset", "foldr"), "'foldr'"),
    Act("an audit of nothing", PHOTOS, ("pipeline", "audit", "photos"), "audit failed"),
    Act("a setting that is misspelt", PHOTOS, ("pipeline", "config", "topk=3"), "topk"),
)  # fmt: skip

# The demo and its page.

_DEMO = ("demo.py", "--input", "photos/photo 0é.jpg", "--output", "out", "--classes", "cat, sofa")
_VIDEO = ("demo.py", "--video-input", "v.mp4", "--output", "o.mp4")


def _png(name: str, size: tuple[int, int] = (9, 9)) -> Prepare:
    return lambda folder: Image.new("RGB", size).save(folder / name, "PNG")


def _looped(folder: Path) -> None:
    (folder / "x.jpg").symlink_to("x.jpg")


_OF_DEMO = (
    Act("demo: no such photo", PHOTOS, _with(_DEMO, input="gone.jpg"), "expected a photo"),
    Act("demo: a link to itself", PHOTOS, _with(_DEMO, input="x.jpg"), "expected a photo", _looped),
    Act("demo: a pipe", PHOTOS, _with(_DEMO, input="x.jpg"), "none of the photos",
        lambda folder: os.mkfifo(folder / "x.jpg")),
    Act("demo: text called .jpg", PHOTOS, _with(_DEMO, input="x.jpg"), "none of the photos",
        _file("x.jpg", b"text")),
    Act("demo: a photo of no byte", PHOTOS, _with(_DEMO, input="x.jpg"), "none of the photos",
        _file("x.jpg", b"")),
    Act("demo: half a photo", PHOTOS, _DEMO, "none of the photos", _cut("photos/photo 0é.jpg")),
    Act("demo: an empty folder", PHOTOS, _with(_DEMO, input="e"), "found none",
        lambda folder: (folder / "e").mkdir()),
    Act("demo: the home of nobody", PHOTOS, _with(_DEMO, input="~nobody/x"), "expected a photo"),
    Act("demo: a name with a dash", PHOTOS, _with(_DEMO, input="-x.jpg"), "needs one or more"),
    Act("demo: the output is the input", PHOTOS,
        (*_with(_DEMO, input="x.png", output="x.png"), "--overwrite"), "overwrite an input",
        _png("x.png")),
    Act("demo: a label map that is there", PHOTOS, _DEMO, "exists; give --overwrite",
        _file("out/photo 0é_labels.png", b"mine")),
    Act("demo: an output below a file", PHOTOS, _with(_DEMO, output="photos/broken.jpg/x"),
        "is a file, expected a folder"),
    Act("demo: an empty output", PHOTOS, _with(_DEMO, output=""), "found an empty text"),
    Act("demo: a folder that may not be written", PHOTOS, _DEMO, "cannot write", _read_only("out")),
    Act("demo: a name that is too long", PHOTOS, _with(_DEMO, input="n" * 251 + ".png"),
        "too long", _png("n" * 251 + ".png")),
    Act("demo: no classes", PHOTOS, _with(_DEMO, classes=","), "at least one class name"),
    Act("demo: an unknown class", PHOTOS, _with(_DEMO, classes="cta"), "near: cat"),
    Act("demo: classes that are binary", PHOTOS, _with(_DEMO, classes="n.txt"), "not text in UTF-8",
        _file("n.txt", b"\xff\xfe")),
    Act("demo: a threshold of nan", PHOTOS, (*_DEMO, "--confidence-threshold", "nan"), "nan"),
    Act("demo: no such checkpoint", PHOTOS, (*_DEMO, "--checkpoint", "gone"), "no such file"),
    Act("demo: an empty checkpoint", PHOTOS, (*_DEMO, "--checkpoint", ""), "found an empty text"),
    Act("demo: a photo as a checkpoint", PHOTOS,
        (*_DEMO, "--checkpoint", "photos/photo 0é.jpg"), "not a whole weight file"),
    Act("demo: embeddings of another width", PHOTOS, (*_DEMO, "--embeddings", "w.npy"),
        "expected embeddings of", _table(2, 7)),
    Act("demo: no input", PHOTOS, ("demo.py",), "give one of --input"),
    Act("demo: text as a video", PHOTOS, _VIDEO, "cannot be opened", _file("v.mp4", b"text")),
    Act("web: a port out of range", PHOTOS, ("web.py", "--port", "99999"), "'--port'"),
    Act("web: an extractor misspelt", PHOTOS, ("web.py", "--extractor", "lowlevel9"),
        "did you mean"),
)  # fmt: skip

# SAZS.

_VOC = "world/VOC2012"
_TRAIN = (
    *("sazs.py", "train", "--arch", "drn_d_22_slim", "--init", "none", "--crop-size", "32"),
    *("--batch_size", "4", "--epochs", "1", "--lr", "0.01", "--workers", "0", "--input-side", "0"),
    *("--device", "cpu", "--validation-share", "0.5", "--names", f"{_VOC}/class_names.txt"),
    *("--embeddings", f"{_VOC}/text_embeddings.npy", "--data-dir", "world", "--filename", "new"),
)
_AGAIN = _with(_TRAIN, filename="out")
_TEST = (
    *("sazs.py", "test", "--data-dir", "world", "--device", "cpu", "--filename", "tested"),
    *("--resume", "out/model_final.safetensors"),
)


def _rolled(folder: Path) -> None:
    np.save(folder / "w.npy", np.roll(np.load(folder / f"{_VOC}/text_embeddings.npy"), 1, 1))


def _all(part: str, change: Callable[[Path], Any]) -> Prepare:
    def prepare(folder: Path) -> None:
        for path in sorted((folder / _VOC / part).iterdir()):
            change(path)

    return prepare


_OF_SAZS = (
    Act("sazs: resumed with another rate", SAZS, _with(_AGAIN, lr="0.02"), "lr was 0.01, is 0.02"),
    Act("sazs: resumed with other texts", SAZS, _with(_AGAIN, embeddings="w.npy"),
        "text embeddings was", _rolled),
    Act("sazs: resumed with another fold", SAZS, (*_AGAIN, "--fold", "1"), "fold was 0, is 1"),
    Act("sazs: half a checkpoint", SAZS, _AGAIN, "not a whole weight file",
        _cut("out/checkpoint_latest.pth.tar")),
    Act("sazs: weights to resume from", SAZS, (*_TRAIN, "--resume", "out/model_final.safetensors"),
        "no training run can be resumed"),
    Act("sazs: a folder that may not be written", SAZS, _TRAIN, "cannot write new",
        _read_only("new")),
    Act("sazs: a file as a folder", SAZS, _with(_TRAIN, filename=f"{_VOC}/world.json"),
        "is a file, expected a folder"),
    Act("sazs: an empty folder name", SAZS, _with(_TRAIN, filename=""), "found an empty text"),
    Act("sazs: embeddings of another width", SAZS, _with(_TRAIN, embeddings="w.npy"),
        "expected embeddings of", _table(20, 100)),
    Act("sazs: embeddings of another length", SAZS, _with(_TRAIN, embeddings="w.npy"),
        "expected 20 classes", _table(7, 512)),
    Act("sazs: embeddings of text", SAZS, _with(_TRAIN, embeddings="w.npy"),
        "cannot read the embeddings", _file("w.npy", b"text")),
    Act("sazs: a name twice", SAZS, _with(_TRAIN, names="n.txt"), "twice",
        _file("n.txt", b"cat\n" * 20)),
    Act("sazs: no names", SAZS, _with(_TRAIN, names="n.txt"), "at least one class name",
        _file("n.txt", b"")),
    Act("sazs: names in UTF-16", SAZS, _with(_TRAIN, names="n.txt"), "not text in UTF-8",
        _file("n.txt", "cat".encode("utf-16"))),
    Act("sazs: no data", SAZS, _with(_TRAIN, data_dir="gone"), "SegmentationClassAug is missing"),
    Act("sazs: no images", SAZS, _TRAIN, "found none", _all("JPEGImages", Path.unlink)),
    Act("sazs: images of no byte", SAZS, _TRAIN, "the file is empty",
        _all("JPEGImages", lambda path: path.write_bytes(b""))),
    Act("sazs: label maps of text", SAZS, _TRAIN, "is not an image",
        _all("SegmentationClassAug", lambda path: path.write_bytes(b"text"))),
    Act("sazs: lists that are not there", SAZS, (*_TRAIN, "--lists", "l.json"), "cannot read"),
    Act("sazs: lists of others", SAZS, (*_TRAIN, "--lists", "l.json"), "l.json",
        _file("l.json", b'{"a": 1}')),
    Act("sazs: a network misspelt", SAZS, _with(_TRAIN, arch="drn_d22"), "'drn_d22' is not known"),
    Act("sazs: a device misspelt", SAZS, _with(_TRAIN, device="gpu"), "device 'gpu'"),
    Act("sazs: a rate of nan", SAZS, _with(_TRAIN, lr="nan"), "lr"),
    Act("sazs: a giant crop", SAZS, _with(_TRAIN, crop_size="100000"), "crop-size"),
    Act("sazs: a giant seed", SAZS, (*_TRAIN, "--seed", str(2**70)), "seed"),
    Act("sazs: a giant batch", SAZS, _with(_TRAIN, batch_size="100000"), "do not fill one batch"),
    Act("sazs: an unknown class held out", SAZS, (*_TRAIN, "--hold-out", "unicorn"), "unicorn"),
    Act("sazs: an option misspelt", SAZS, (*_TRAIN, "--learning-rate", "1"), "--learning-rate"),
    Act("sazs test: no weights", SAZS, ("sazs.py", "test", "--data-dir", "world"), "give weights"),
    Act("sazs test: no such weights", SAZS, _with(_TEST, resume="gone"), "no such file"),
    Act("sazs test: another fold", SAZS, (*_TEST, "--fold", "2"), "trained with fold 0"),
    Act("sazs test: no eigenvectors", SAZS, (*_TEST, "--eig_dir", "world"), "expected shards"),
    Act("sazs test: fusion of nothing", SAZS, (*_TEST, "--fusion", "voting"), "has no effect"),
    Act("sazs test: an image gone", SAZS, _TEST, "--allow-missing",
        _without(f"{_VOC}/JPEGImages/world_000020.jpg")),
    Act("sazs test: a folder that may not be written", SAZS, _TEST, "cannot write tested",
        _read_only("tested")),
)  # fmt: skip

# ZegFormer.

_CONFIG = str(ROOT / "configs" / "world" / "zegformer_R14_world.yaml")


def _zegformer(*flags: str, config: str = _CONFIG, **changes: object) -> tuple[str, ...]:
    """The command line with other values for some keys, `SOLVER__BASE_LR` for SOLVER.BASE_LR."""
    values: dict[str, object] = {
        "DATASETS.ROOT": "out/datasets",
        "MODEL.DEVICE": "cpu",
        "MODEL.TEXT_EMBEDDINGS": "out/datasets/text_embeddings.npy",
        "MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON": "out/datasets/classes.json",
        "MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON": "out/datasets/classes.json",
        "OUTPUT_DIR": "new",
        "SOLVER.MAX_ITER": 4,
        "SOLVER.WARMUP_ITERS": 0,
        "SOLVER.CHECKPOINT_PERIOD": 1,
        "SOLVER.IMS_PER_BATCH": 2,
        "TEST.EVAL_PERIOD": 0,
        "DATALOADER.NUM_WORKERS": 0,
    }
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    words = [str(part) for pair in values.items() for part in pair]
    return ("train_net.py", "--config-file", config, *flags, *words)


def _config(text: str) -> Prepare:
    return _file("c.yaml", f"_BASE_: {_CONFIG}\n{text}".encode())


_SCORED = {"MODEL__WEIGHTS": "out/model_final.safetensors"}
_OF_ZEGFORMER = tuple(
    Act(f"zegformer: {name}", ZEGFORMER, words, says, prepare)
    for name, words, says, prepare in (
        ("a finished run, overwritten", _zegformer(OUTPUT_DIR="out"), "--restart", None),
        ("resumed with another rate", _zegformer("--resume", OUTPUT_DIR="out", SOLVER__BASE_LR=1),
         "SOLVER.BASE_LR was", None),
        ("half a checkpoint", _zegformer("--resume", OUTPUT_DIR="out"), "not a whole weight file",
         _cut("out/checkpoint_latest.pth.tar")),
        ("no such configuration", _zegformer(config="gone.yaml"), "cannot be read", None),
        ("weights as a configuration", _zegformer(config="out/model_final.safetensors"),
         "no text in UTF-8", None),
        ("an empty configuration", _zegformer(config="c.yaml"), "expected a mapping",
         _file("c.yaml", b"")),
        ("a key misspelt", _zegformer(config="c.yaml"), "did you mean SOLVER.MAX_ITER",
         _config("SOLVER: {MAX_ITERS: 3}")),
        ("a key of another type", _zegformer(config="c.yaml"), "expected a number, found 'fast'",
         _config("SOLVER: {BASE_LR: fast}")),
        ("a base that is itself", _zegformer(config="c.yaml"), "is its own _BASE_",
         _file("c.yaml", b"_BASE_: c.yaml")),
        ("a key misspelt at the end", _zegformer(SOLVER__MAXITER=3), "did you mean", None),
        ("an option misspelt", _zegformer("--evalonly"), "--evalonly", None),
        ("a key without a value", (*_zegformer(), "SEED"), "has no value", None),
        ("no steps", _zegformer(SOLVER__MAX_ITER=0), "expected at least 1", None),
        ("a giant seed", _zegformer(SEED=2**70), "SEED", None),
        ("no process", _zegformer("--num-gpus", "0"), "--num-gpus", None),
        ("a machine too many", _zegformer("--num-machines", "2", "--machine-rank", "5"),
         "--machine-rank", None),
        ("an empty folder name", _zegformer(OUTPUT_DIR=""), "not empty", None),
        ("a folder that may not be written", _zegformer(), "cannot write new", _read_only("new")),
        ("no data", _zegformer(DATASETS__ROOT="gone"), "is missing", None),
        ("an unknown data set", _zegformer(DATASETS__TRAIN="('voc',)"), "'voc'", None),
        ("embeddings of another length", _zegformer(MODEL__TEXT_EMBEDDINGS="w.npy"),
         "expected 20 rows", _table(3, 512)),
        ("label ids twice", _zegformer(MODEL__SEM_SEG_HEAD__TRAIN_CLASS_JSON="c.json"),
         "different label ids",
         _file("c.json", json.dumps({"names": [*"abcdefghijklmnopqrst"],
                                     "label_ids": [0] * 20}).encode())),
        ("deep JSON", _zegformer(MODEL__SEM_SEG_HEAD__TRAIN_CLASS_JSON="c.json"), "cannot read",
         _file("c.json", b"[" * 99999)),
        ("no such weights", _zegformer(MODEL__WEIGHTS="gone.pkl"), "no such file", None),
        ("scored without weights", _zegformer("--eval-only", MODEL__WEIGHTS=""),
         "expected trained weights", None),
        ("scored on nothing", _zegformer("--eval-only", DATASETS__TEST="()", **_SCORED),
         "expected a data set to score", None),
        ("scored with another width", _zegformer("--eval-only", MODEL__TEXT_EMBEDDINGS="w.npy",
                                                 **_SCORED), "not a checkpoint", _table(20, 77)),
    )
    for prepare in [prepare or (lambda folder: None)]
)  # fmt: skip

ACTS: tuple[Act, ...] = (*_OF_STAGES, *_OF_DEMO, *_OF_SAZS, *_OF_ZEGFORMER)
