"""The golden spectra, and a check that the comparison detects a mistake."""

from pathlib import Path

import numpy as np
import pytest

from tests.parity import spectral

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def found():
    return {case.name: case for case in spectral.cases(GOLDEN)}


def test_every_golden_array_is_compared_and_passes(found):
    failed = [case for case in found.values() if not case.passed]
    assert not failed
    for name in ("spectral", "spectral_toy"):
        with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
            wanted = [key for key in file.files if key.endswith((".val", ".nnz", ".single", ".n"))]
        assert wanted
        for key in wanted:
            assert any(case.startswith(f"{name} {key}") for case in found), key


def test_a_folder_without_the_files_yields_nothing(tmp_path):
    assert not list(spectral.cases(tmp_path))


@pytest.mark.parametrize(
    ("replaced", "by"),
    [
        ("_products", lambda x: x.astype(np.float64) @ x.T.astype(np.float64) + 1e-4),
        ("fix_signs", lambda v: -v),
        ("NAMES", {"knn": "random_walk", "rw": "knn"}),
    ],
)
def test_a_mistake_is_noticed(monkeypatch, replaced, by):
    monkeypatch.setattr(spectral, replaced, by)
    golden = spectral.Golden.find(GOLDEN, "spectral_toy")
    subject = spectral._toy(golden, spectral.photograph(golden))
    assert any(not case.passed for case in spectral._variants(golden, subject))
