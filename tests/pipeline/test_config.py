"""One declaration for file, command line and documentation; mistakes are named."""

import itertools
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from data.errors import SettingError
from eigen import ExtractorSpec, GraphSpec, MaskSpec, SolveSpec, masks
from eigen.extractors.registry import REGISTRY, check, family
from eigen.solvers.registry import SOLVERS
from pipeline import config
from pipeline.cli import main
from pipeline.config import KEYS, resolve

ROOT = Path(__file__).parents[2]

# What a key needs beside it to have an effect.
TOGETHER = {
    "neighbours": {"graph": "patch"},
    "colour": {"colour_weight": 10.0},
    "colour_weight": {"colour": "knn"},
    **{key: {"graph": "pixel"} for key in config.GRAPH if "pixel" in key},
    **{key: {"extractor": "dino_resnet50"} for key in ("stages", "patch", "enlargement")},
    "centring": {"extractor": "dino_resnet50"},
    "object_threshold": {"object_method": "tokencut"},
}


def parts(key):
    schema = KEYS[key].schema
    return schema.get("anyOf", [schema])


def inside(part):
    """Values at the ends of what a schema admits."""
    if "enum" in part:
        return list(part["enum"])
    if part["type"] == "boolean":
        return [True, False]
    if part["type"] == "null":
        return [None]
    if part["type"] == "string":
        return []
    step = 1 if part["type"] == "integer" else 1e-9
    low = part.get("minimum", part.get("exclusiveMinimum", -7 - step) + step)
    high = part.get("maximum", part.get("exclusiveMaximum", 10**6 + step) - step)
    return [low, high]


def outside(part):
    """Values just beyond it, and of other types."""
    if "enum" in part:
        return ["no such choice", 7]
    wrong = {"boolean": ["maybe", 2], "null": [], "string": [7, {"a": 1}]}
    if part["type"] in wrong:
        return wrong[part["type"]]
    step = 1 if part["type"] == "integer" else 1e-9
    bounds = [part[b] - step for b in ("minimum",) if b in part]
    bounds += [part[b] + step for b in ("maximum",) if b in part]
    bounds += [part[b] for b in ("exclusiveMinimum", "exclusiveMaximum") if b in part]
    return [*bounds, "five", True, float("nan"), *([2.5] if part["type"] == "integer" else [])]


ADMITTED = [(key, v) for key in KEYS for part in parts(key) for v in inside(part)]
REFUSED = [(key, v) for key in KEYS for part in parts(key) for v in outside(part)]


@pytest.mark.parametrize(("key", "value"), ADMITTED, ids=lambda v: str(v))
def test_every_value_that_the_schema_admits_reaches_the_library(key, value):
    settings = {**TOGETHER.get(key, {}), key: value}
    if settings.get("colour") == "none" or value == 0 == settings.get("colour_weight"):
        settings = {key: value}
    resolved = resolve(settings)
    assert resolved.flat(key) == {key: value}
    made = (resolved.extractor, resolved.graph, resolved.solve, resolved.masks)
    assert tuple(map(type, made)) == (ExtractorSpec, GraphSpec, SolveSpec, MaskSpec)
    check(resolved.extractor)
    family(resolved.extractor.name)
    if key == "solver" and value != "auto":
        assert callable(SOLVERS[value]())
    # What a command line is given says the same.
    for stage in (stage for stage, keys in config.STAGE_KEYS.items() if key in keys):
        words = config.options(resolved, stage)
        if value != KEYS[key].schema["default"] and not isinstance(value, bool):
            text = words[words.index("--" + key.replace("_", "-")) + 1]
            assert resolve({**settings, key: text}).flat(key) == {key: value}


@pytest.mark.parametrize(("key", "value"), REFUSED, ids=lambda v: str(v))
def test_every_other_value_is_refused_with_the_name_of_its_key(key, value):
    with pytest.raises(SettingError, match=rf"^{key}: expected .*; found") as raised:
        resolve({**TOGETHER.get(key, {}), key: value})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", REGISTRY)
def test_every_extractor_is_admitted_and_its_idle_settings_refused(name):
    resolve({"extractor": name, "demo_extractor": name})
    changed = {"weights": "random:1", "facet": "token", "block": 3, "autocast": "bf16"}
    changed |= {"stages": "layer3", "patch": 8, "enlargement": 2.0, "centring": 0.5}
    for option, value in changed.items():
        if option in family(name).options:
            resolve({"extractor": name, option: value})
        else:
            with pytest.raises(
                SettingError, match=f"^{option}: .* no effect with extractor={name}"
            ):
                resolve({"extractor": name, option: value})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        *(({key: 3, "graph": "patch"}, key) for key in config.GRAPH if "pixel" in key),
        ({"neighbours": 5, "graph": "pixel"}, "neighbours"),
        ({"colour": "knn"}, "colour"),
        ({"colour": "random_walk", "colour_weight": 0}, "colour"),
        ({"colour_weight": 10}, "colour_weight"),
        ({"colour": "knn", "colour_weight": 10, "graph": "pixel"}, "colour"),
    ],
)
def test_a_setting_without_effect_is_refused_with_the_name_of_its_key(settings, named):
    settings = {k: v * 1000 if k == "max_pixel_nodes" else v for k, v in settings.items()}
    with pytest.raises(SettingError, match=rf"^{named}: .* has no effect with "):
        resolve(settings)


def test_every_method_of_masks_is_a_choice():
    assert KEYS["mask_method"].schema["enum"] == list(masks._METHODS)


def test_every_key_is_documented():
    assert all(key.schema["description"] for key in KEYS.values())
    assert (ROOT / "docs" / "configuration.md").read_text() == config.markdown()
    assert set(config.json_schema()["properties"]) == set(KEYS)


def test_the_configuration_file_is_valid():
    resolve(yaml.safe_load((ROOT / "config" / "config.yaml").read_text()))


def test_a_misspelt_key_is_named_with_the_nearest():
    with pytest.raises(SettingError, match="'extracter' does not exist; did you mean 'extractor'"):
        resolve({"extracter": "lowlevel"})


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("strict", "true", True),
        ("strict", "False", False),
        ("neighbours", "null", None),
        ("neighbours", "8", 8),
        ("weights", "null", None),
        ("weights", "~", None),
        ("folder", "", None),
        ("stages", "null", None),
        ("tolerance", "1e-4", 1e-4),
        ("k", "7", 7),
        ("top_k", "7", 7),
        ("autocast", "bfloat16", "bf16"),
        ("autocast", "float16", "fp16"),
    ],
)
def test_text_means_what_yaml_means_by_it(key, text, value):
    name = config.ALIASES.get(key, key)
    assert resolve({key: text}).flat(name) == {name: value}
    shown = CliRunner().invoke(main, ["config", f"{key}={text}"])
    assert yaml.safe_load(shown.output)[name] == value


def test_null_where_there_must_be_a_value_is_refused():
    with pytest.raises(SettingError, match="datasets_root: expected text; found None"):
        resolve({"datasets_root": "null"})


def test_the_alias_overrides_the_file_whatever_the_order():
    for settings in itertools.permutations([("k", 5), ("top_k", 7)]):
        assert resolve(dict(settings)).solve.k == 7


def test_stored_settings_do_not_name_the_machine_or_its_folders():
    stored = resolve({"device": "cuda", "batch_size": 3}).flat(*config.IDENTITY["fused"])
    assert not {"device", "batch_size", "results_root", "datasets_root"} & set(stored)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "k": st.integers(1, 256),
            "extractor": st.sampled_from(["dino_vitb16", "dino_vits8"]),
            "drop_trivial": st.booleans(),
            "neighbours": st.none() | st.integers(2, 99),
            "weights": st.sampled_from(["a file.pth", "random:3"]),
        },
    )
)
def test_a_command_gets_what_differs_from_the_defaults(overrides):
    words = config.options(resolve(overrides), "fused")
    changed = {key for key, value in overrides.items() if value != config.defaults()[key]}
    assert {word for word in words if word.startswith("--")} == {
        "--" + key.replace("_", "-") for key in changed
    }
    for key in changed - {"drop_trivial"}:
        assert words[words.index("--" + key.replace("_", "-")) + 1] == str(overrides[key])
