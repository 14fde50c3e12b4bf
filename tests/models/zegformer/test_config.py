"""Configuration: published values, inheritance, overrides, and every way a file can be wrong."""

from __future__ import annotations

import itertools
import logging
import re
import typing
from pathlib import Path

import pytest
import yaml

from data.errors import SettingError
from models.zegformer.config import flat, from_recipe, load, nested, replaced
from models.zegformer.published_keys import NO_EFFECT, ONLY
from models.zegformer.settings import Section, ZegFormerSettings

ROOT = Path(__file__).parents[3]
CONFIGS = sorted(
    path
    for path in (ROOT / "configs").rglob("zegformer_*.yaml")
    if path.parent.name not in ("world", "packaged")
)

# depth, iterations, classes, prompts, CLIP, ensembling, gamma, half precision, test set, workers
PUBLISHED = {
    "R50_bs32_60k_vit16_coco-stuff":
        (50, 60000, 156, "imagenet_select", False, False, -1, True, "test_stuff_seen", 8),
    "R50_bs32_60k_vit16_coco-stuff_gzss_eval":
        (50, 60000, 171, "imagenet_select", True, True, 0.1, True, "val_all_stuff", 8),
    "R101_bs32_60k_vit16_coco-stuff":
        (101, 60000, 156, "imagenet_select", False, False, -1, True, "test_stuff_seen", 8),
    "R101_bs32_60k_vit16_coco-stuff_gzss_eval":
        (101, 60000, 171, "single", True, True, 0.1, True, "val_all_stuff", 8),
    "R101_bs32_60k_vit16_coco-stuff_gzss_eval_847_classes":
        (101, 60000, 847, "imagenet_select", True, False, 0, True, "freq_val_all", 8),
    "R50_bs32_10k_vit16_voc":
        (50, 10000, 15, "single", False, False, -1, False, "test_seen", 4),
    "R50_bs32_10k_vit16_voc_gzss_eval":
        (50, 10000, 20, "single", True, False, -1, False, "val_all", 4),
    "R101_bs32_10k_vit16_voc":
        (101, 10000, 15, "single", False, False, -1, False, "test_seen", 1),
    "R101_bs32_10k_vit16_voc_gzss_eval":
        (101, 10000, 20, "single", True, True, 0.1, False, "val_all", 4),
    "R101_bs32_30k_vit16_voc":
        (101, 30000, 15, "single", False, False, -1, False, "test_seen", 4),
    "R101_bs32_30k_vit16_voc_gzss_eval":
        (101, 30000, 20, "single", True, True, 0.1, False, "val_all", 4),
    "R50_bs32_60k_vit16_ade20k-full-847-freq":
        (50, 60000, 572, "imagenet_select", False, False, -1, False, "freq_val", 8),
    "R50_bs32_60k_vit16_ade20k-full-847-freq_gzss_eval":
        (50, 60000, 847, "imagenet_select", True, True, 0, False, "freq_val_all", 8),
}  # fmt: skip


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_published_values(path):
    config = load(path)
    found = (
        config.MODEL.RESNETS.DEPTH,
        config.SOLVER.MAX_ITER,
        config.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        config.MODEL.PROMPT_ENSEMBLE_TYPE,
        config.MODEL.SEM_SEG_HEAD.CLIP_CLASSIFICATION,
        config.MODEL.MASK_FORMER.ENSEMBLING,
        config.MODEL.MASK_FORMER.GZERO_CALIBRATE,
        config.SOLVER.AMP.ENABLED,
    )
    *expected, test_set, workers = PUBLISHED[path.stem.removeprefix("zegformer_")]
    assert found == tuple(expected)
    assert test_set in config.DATASETS.TEST[0]
    assert workers == config.DATALOADER.NUM_WORKERS
    wide = config.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 847 or "ade20k" in path.stem
    assert (65535 if wide else 255) == config.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    side = 640 if "coco-stuff" in str(path) else 512
    assert config.INPUT.SIZE_DIVISIBILITY == config.INPUT.MIN_SIZE_TEST == side
    assert (side, side) == config.INPUT.CROP.SIZE


def test_there_are_thirteen():
    assert {p.stem.removeprefix("zegformer_") for p in CONFIGS} == PUBLISHED.keys()


def write(folder: Path, text: str, name: str = "a.yaml") -> Path:
    (folder / name).write_text(text, errors="surrogateescape")
    return folder / name


def test_bases_then_file_then_overrides(tmp_path, caplog):
    write(tmp_path, "SOLVER: {BASE_LR: 1e-3, MAX_ITER: 5}", "base.yaml")
    path = write(tmp_path, "_BASE_: base.yaml\nSOLVER: {MAX_ITER: 7}")
    with caplog.at_level(logging.INFO):
        config = load(path, ["DATASETS.TEST", "('x',)", "SEED", "3", "SOLVER.BASE_LR", "1"])
    assert config.SOLVER.MAX_ITER == 7
    assert config.SOLVER.BASE_LR == 1.0
    assert (config.DATASETS.TEST, config.SEED) == (("x",), 3)
    assert "SOLVER.BASE_LR: 0.001 -> 1.0" in caplog.text
    again = write(tmp_path, yaml.safe_dump(nested(config)), "b.yaml")
    assert load(again) == config


def test_legacy_python_tag_is_computed_without_running_it(tmp_path):
    tag = "!!python/object/apply:eval"
    path = write(
        tmp_path,
        f'INPUT:\n  MIN_SIZE_TRAIN: {tag} ["[int(x * 0.1 * 512) for x in range(5, 21)]"]\n',
    )
    voc = next(p for p in CONFIGS if "voc" in p.stem)
    assert load(path).INPUT.MIN_SIZE_TRAIN == load(voc).INPUT.MIN_SIZE_TRAIN
    marker = tmp_path / "ran"
    path = write(tmp_path, f"SEED: {tag} [\"open({str(marker)!r}, 'w')\"]\n")
    with pytest.raises(SettingError, match=r"a\.yaml: line 1: refused to run"):
        load(path)
    assert not marker.exists()
    path = write(tmp_path, "SEED: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(SettingError, match="no configuration"):
        load(path)


def test_dead_keys_warn_and_unknown_keys_are_named(tmp_path, caplog):
    path = write(tmp_path, "MODEL: {MASK_FORMER: {FUSION_WAY: add}, PROMPT_ENSEMBLE: true}")
    with caplog.at_level(logging.WARNING):
        load(path)
    assert "MODEL.MASK_FORMER.FUSION_WAY has no effect" in caplog.text
    path = write(tmp_path, "SOLVER: {BASE_RL: 1}")
    with pytest.raises(SettingError, match=r"BASE_RL is no known key; did you mean SOLVER.BASE_LR"):
        load(path)


def fields(section=ZegFormerSettings, prefix=""):
    """(dotted key, field) of every setting."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


FIELDS = dict(fields())
EVERY_CONFIG = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", EVERY_CONFIG, ids=lambda p: p.stem)
def test_every_shipped_file_builds_and_survives_a_recipe(path):
    settings = load(path)
    assert from_recipe(flat(settings)) == settings
    assert nested(settings)["SOLVER"]["MAX_ITER"] == settings.SOLVER.MAX_ITER


def beyond(field) -> list:
    """Values that a field's declared limits exclude, and one of another kind."""
    values: list = [{"a": 1}] if field.annotation is not str else [3.5]
    for limit in field.metadata:
        step = 1 if field.annotation is int else 1e-3
        for name, sign in (("ge", -1), ("gt", 0), ("le", 1), ("lt", 0)):
            if hasattr(limit, name):
                values.append(getattr(limit, name) + sign * step)
        if hasattr(limit, "multiple_of"):
            values.append(limit.multiple_of * 2 + 1)
        if getattr(limit, "min_length", None):
            values.append([])
    if typing.get_origin(field.annotation) is typing.Literal:
        values.append("no such choice")
    if field.annotation is float:
        values += [float("inf"), float("nan")]
    if typing.get_origin(field.annotation) is tuple:
        values.append([[]])
    return values


@pytest.mark.parametrize("key", FIELDS)
def test_limits_of_every_field_are_enforced_under_its_name(key):
    assert FIELDS.keys().isdisjoint({*ONLY, *NO_EFFECT})
    for value in beyond(FIELDS[key]):
        with pytest.raises(SettingError, match=re.escape(key)) as error:
            replaced(ZegFormerSettings(), {key: value})
        assert "found" in str(error.value) or "known" in str(error.value)


@pytest.mark.parametrize("key", sorted(ONLY))
def test_a_published_key_of_one_value_takes_that_value_alone(key):
    assert replaced(ZegFormerSettings(), {key: ONLY[key]}) == ZegFormerSettings()
    assert replaced(ZegFormerSettings(), {key: str(ONLY[key])}) == ZegFormerSettings()
    with pytest.raises(SettingError, match=f"{key}: only .* is implemented, found 'other'"):
        replaced(ZegFormerSettings(), {key: "other"})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.MASK_FORMER.NHEADS", 3, "NHEADS: expected a divisor of 256, found 3"),
        ("INPUT.CROP.SIZE", [999], "INPUT.CROP.SIZE 999 exceeds INPUT.SIZE_DIVISIBILITY 640"),
        ("INPUT.CROP.SIZE", [64, 32], r"CROP.SIZE: expected two equal sides, found \[64, 32\]"),
        ("SOLVER.WARMUP_ITERS", 10**6, "SOLVER.WARMUP_ITERS: expected at most MAX_ITER 60000"),
        ("DATASETS.TEST", ["a", "a"], "DATASETS.TEST: expected each data set once"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(key, value, message):
    with pytest.raises(SettingError, match=message):
        replaced(ZegFormerSettings(), {key: value})


def test_tuples_and_numbers_in_text_are_read_as_the_published_reader_does(tmp_path):
    path = write(
        tmp_path,
        """
DATASETS:
  TRAIN: ("a",)
  TEST: ("b", "c")
INPUT:
  MIN_SIZE_TRAIN: (480, 512)
  SIZE_DIVISIBILITY: 512
  CROP:
    SIZE: (512, 512)
SOLVER:
  BASE_LR: "1e-3"
  AMP: {ENABLED: "True"}
MODEL:
  PIXEL_MEAN: (123.675, 116.28, 103.53)
  RESNETS: {OUT_FEATURES: "('res2', 'res3', 'res4', 'res5')"}
OUTPUT_DIR: (512, 512)
""",
    )
    settings = load(path)
    assert settings.DATASETS.TRAIN == ("a",) and settings.DATASETS.TEST == ("b", "c")
    assert settings.INPUT.MIN_SIZE_TRAIN == (480, 512)
    assert settings.INPUT.CROP.SIZE == (512, 512)
    assert settings.SOLVER.BASE_LR == 1e-3 and settings.SOLVER.AMP.ENABLED is True
    assert settings.OUTPUT_DIR == "(512, 512)"


# Nine lists of nine of each other: a repr of all would not end.
LAUGHS = "&a [1], " + ", ".join(
    f"&{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in itertools.pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("SOLVER: {MAX_ITER: many}", [], "MAX_ITER: expected an integer, found 'many'"),
        ("MODEL: {RESNETS: {STRIDE_IN_1X1: true}}", [], "STRIDE_IN_1X1: only False is implemented"),
        ("- 1", [], "expected a mapping"),
        ("SOLVER: 3", [], "SOLVER: expected a mapping of keys, found 3"),
        ("SOLVER: {STEPS: 1}\nSEED: 1\nSEED: 2", [], "line 3: SEED occurs twice, first in line 2"),
        ("SOLVER:\n  MAX_ITER: 1\n  MAX_ITER: 1", [], "line 3: MAX_ITER occurs twice"),
        ("SOLVER: {MAX_ITER: 1}\nSOLVER.MAX_ITER: 2", [], "SOLVER.MAX_ITER occurs twice"),
        ("SEED: 2001-99-99", [], "no configuration: month must be"),
        ("SEED: [", [], "no configuration"),
        ("_BASE_: a.yaml", [], "is its own _BASE_"),
        ("_BASE_: gone.yaml", [], r"gone\.yaml: cannot be read"),
        ("_BASE_: [b.yaml]", [], r"_BASE_: expected the path of one file, found \['b.yaml'\]"),
        ("SOLVER: {BASE_LR: .nan}", [], "BASE_LR: expected a finite number, found nan"),
        ("SEED: 1", ["SOLVER.BASE_LR", "1e999"], "BASE_LR: expected a finite number, found inf"),
        ("a: &a\n  MODEL: *a", [], r"a\.yaml: a\.MODEL\.MODEL.* is no known key"),
        ("[" * 5000, [], "nested too deeply"),
        ("SEED: \udc80", [], "no text in UTF-8"),
        (f"SEED: [{LAUGHS}]", [], "SEED: expected an integer, found "),
        ("SEED: 1", ["SEED"], "'SEED' has no value"),
        ("SEED: 1", ["SEDE", "2"], "command line: SEDE is no known key; did you mean SEED"),
        ("SEED: 1", ["MODEL.SEM_SEG_HEAD.WORDVEC", "True"], "only False is implemented"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, text, overrides, message):
    with pytest.raises(SettingError, match=message) as error:
        load(write(tmp_path, text), overrides)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"INPUT.CACHED_VIEWS": 2}, "CACHED_VIEWS: expected 0, or with it MODEL.BACKBONE.FREEZE"),
        (
            {"INPUT.CACHED_VIEWS": 2, "MODEL.BACKBONE.FREEZE_AT": 5},
            "expected 0, or with it DATALOADER.NUM_WORKERS 0; found 2",
        ),
        ({"MODEL.BACKBONE.FREEZE_AT": 6}, "FREEZE_AT: expected at most 5, found 6"),
        ({"MODEL.BACKBONE.NAME": "resnet"}, "NAME: choose 'build_resnet_backbone', 'efficient"),
        (
            {"MODEL.BACKBONE.NAME": "efficientnet_lite2", "MODEL.RESNETS.NORM": "BN"},
            "MODEL.RESNETS.NORM: expected FrozenBN.*NAME is efficientnet_lite2; found BN",
        ),
        (
            {"MODEL.BACKBONE.NAME": "efficientnet_lite2", "MODEL.RESNETS.RES2_OUT_CHANNELS": 64},
            "RES2_OUT_CHANNELS: expected 256",
        ),
        ({"MODEL.MASK_FORMER.PIXEL_WEIGHT": 1.0}, "PIXEL_WEIGHT: expected 0 with CLASS_EMBEDDING"),
    ],
)
def test_settings_of_backbones_and_segments_fit_together(changes, message):
    with pytest.raises(SettingError, match=message):
        replaced(ZegFormerSettings(), changes)


def test_published_networks_have_no_variation():
    for path in CONFIGS:
        model = load(path).MODEL
        assert (model.BACKBONE.NAME, model.BACKBONE.FREEZE_AT) == ("build_resnet_backbone", 0)
        assert model.MASK_FORMER.CLASS_EMBEDDING == "query" and not model.MASK_FORMER.PIXEL_WEIGHT
