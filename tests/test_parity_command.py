"""`python -m tests.parity DIR`: one line a case, and an exit status that says all."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.parity.__main__ import families, main
from tests.parity.case import Case, largest_difference

GOLDEN = Path(__file__).parent / "golden"


def run(*words):
    answer = CliRunner().invoke(main, [str(word) for word in words])
    return answer.exit_code, answer.output


def test_all_families_are_found():
    assert {"dino", "spectral", "edges", "splits", "clip", "sazs", "loss", "metric"} <= set(
        families()
    )


def test_a_family_that_agrees_passes(tmp_path):
    shutil.copy(GOLDEN / "edge_gt.npz", tmp_path)
    code, output = run(tmp_path, "--family", "edges")
    assert code == 0
    assert output.count(" pass\n") == len(output.splitlines()) - 1


def test_one_number_that_differs_fails(tmp_path):
    with np.load(GOLDEN / "edge_gt.npz") as golden:
        arrays = dict(golden)
    edge = arrays["edge"].copy()
    edge.flat[7] = 1 - edge.flat[7]
    np.savez(tmp_path / "edge_gt.npz", **{**arrays, "edge": edge})
    code, output = run(tmp_path, "--family", "edges")
    assert code == 1
    assert output.count(" FAIL\n") == 1


def test_a_folder_without_goldens_is_no_success(tmp_path):
    code, output = run(tmp_path)
    assert code == 1
    assert "no golden file" in output


def test_an_unknown_family_is_named(tmp_path):
    code, output = run(tmp_path, "--family", "dyno")
    assert code == 2
    assert "'dyno' is not one of" in output


@pytest.mark.parametrize("error", [float("nan"), float("inf"), 1.1])
def test_what_is_no_number_or_too_far_fails(error):
    assert not Case("a", error, 1.0).passed


def test_shapes_and_nans_must_agree():
    assert largest_difference(np.zeros(3), np.zeros(4)) == float("inf")
    assert np.isnan(largest_difference(np.array([np.nan]), np.array([0.0])))
    assert largest_difference(np.array([np.nan, 1]), np.array([np.nan, 3])) == 2
