"""Extractors that another installed package announces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.errors import SettingError
from eigen.extractors import extractor, names

MODULE = """
import numpy as np

class Mean:
    name, patch, dim, mean, std, weights_sha256 = "mean", 4, 3, (0, 0, 0), (1, 1, 1), None
    device = "cpu"
    def __init__(self, **options):
        self.options = options
    def grid(self, size):
        return size[0] // 4, size[1] // 4
    def config(self):
        return {"name": self.name}
    def __call__(self, images):
        return np.ones((len(images), 1, 3), np.float32) / np.sqrt(np.float32(3))
    def features_tensor(self, images):
        raise RuntimeError("no tensors here")

def half(**options):
    return object()

def broken(**options):
    raise KeyError("licence")
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package, as importlib.metadata sees one."""
    (tmp_path / "their_extractors.py").write_text(MODULE)
    metadata = tmp_path / "their_extractors-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: their-extractors\nVersion: 1.0\n"
    )
    (metadata / "entry_points.txt").write_text(
        "[eigenshape.extractors]\n"
        "mean = their_extractors:Mean\n"
        "half = their_extractors:half\n"
        "broken = their_extractors:broken\n"
        "absent = their_extractors:absent\n"
        "lowlevel = their_extractors:broken\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_a_plugin_is_listed_and_receives_the_options():
    assert "mean" in names()
    made = extractor("mean", facet="value", block=3)
    assert made([np.zeros((4, 4, 3), np.uint8)]).shape == (1, 1, 3)
    assert made.options == {  # type: ignore[attr-defined]
        "weights": None,
        "facet": "value",
        "block": 3,
        "device": "auto",
        "autocast": None,
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("half", "has no __call__, config, device, dim"),
        ("broken", r"their_extractors:broken.*KeyError\('licence'\)"),
        ("absent", "their_extractors:absent.*AttributeError"),
    ],
)
def test_one_that_does_not_work_is_named_with_its_package(name: str, said: str):
    with pytest.raises(SettingError, match=said):
        extractor(name)


def test_a_built_in_name_cannot_be_taken_over(caplog: pytest.LogCaptureFixture):
    assert extractor("lowlevel").dim == 384
    assert names().count("lowlevel") == 1
    assert "'lowlevel' of their_extractors:broken is ignored" in caplog.text
