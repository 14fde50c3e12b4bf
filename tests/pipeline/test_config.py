"""One schema for the file, the command line and the documentation; a misspelt key is named."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from data.errors import SettingError
from pipeline import config
from pipeline.config import Config, resolve

ROOT = Path(__file__).parents[2]


def test_the_typed_object_has_the_keys_of_the_schema():
    assert [field.name for field in fields(Config)] == list(config.properties())


def test_every_key_is_documented_and_its_default_allowed():
    for key, entry in config.properties().items():
        assert entry["description"], key
        resolve({key: entry["default"]})


def test_the_documentation_is_up_to_date():
    assert (ROOT / "docs" / "configuration.md").read_text() == config.markdown()


def test_the_configuration_file_is_valid():
    resolve(yaml.safe_load((ROOT / "config" / "config.yaml").read_text()))


def test_a_misspelt_key_is_named_with_the_nearest():
    with pytest.raises(SettingError, match="'extracter' does not exist; did you mean 'extractor'"):
        resolve({"extracter": "lowlevel"})


@pytest.mark.parametrize(
    ("key", "value"),
    [("k", 0), ("k", "five"), ("k", 2.5), ("tolerance", 0), ("path", "fast"), ("strict", "maybe")],
)
def test_a_value_out_of_range_is_named(key, value):
    with pytest.raises(SettingError, match=f"configuration key '{key}'.*default"):
        resolve({key: value})


def test_numbers_may_be_written_as_people_write_them():
    assert resolve({"tolerance": "1e-4"}).tolerance == 1e-4
    assert resolve({"colour_weight": 10}).colour_weight == 10


def test_the_defaults_of_a_graph_are_those_of_the_library():
    from eigen import GraphSpec
    from pipeline.chain import graph_spec

    assert graph_spec(resolve({})) == GraphSpec()


def test_every_key_of_a_stage_exists():
    for stage, keys in config.STAGE_KEYS.items():
        assert set(keys) <= set(config.properties()), stage


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "k": st.integers(1, 256),
            "extractor": st.sampled_from(["lowlevel", "dino_vits8"]),
            "drop_trivial": st.booleans(),
            "colour_weight": st.floats(0, 100),
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
