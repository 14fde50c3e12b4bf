"""Features against the published implementation's, with weights filled by key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parity import dino
from tests.parity.golden import OWN


@pytest.mark.parametrize("name", ["dino_vits16", "dino_vits8", "dino_vitb16", "dino_vitb8"])
def test_every_array_of_the_golden_file_is_matched(name: str, tmp_path: Path):
    (tmp_path / f"{name}.npz").symlink_to(OWN / f"{name}.npz")
    cases = list(dino.cases(tmp_path))
    assert {case.name for case in cases} >= {
        f"{name} {key}" for key in ("k", "cls", "pos", "k_cosine")
    }
    assert [case for case in cases if not case.passed] == []
