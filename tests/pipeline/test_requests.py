"""Requests are dated so that a comparison of file times remakes exactly what differs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data.errors import RunError
from pipeline import requests
from pipeline.requests import Photo, Request

PHOTOS = (Photo("a", "x/a.jpg", 10, 1_000), Photo("b", "x/b.jpg", 20, 2_000))


@pytest.fixture
def request_file(tmp_path):
    return tmp_path / "requests" / "shard-00000.json"


@pytest.fixture
def result(tmp_path):
    path = tmp_path / "shard-00000.h5"
    path.write_bytes(b"made")
    return path


def is_due(file: Path, result: Path) -> bool:
    """What Make and Snakemake would say."""
    return file.stat().st_mtime_ns > result.stat().st_mtime_ns


def test_what_answers_its_request_is_up_to_date(request_file, result):
    asked = Request("fused", {"k": 5}, PHOTOS)
    requests.place(request_file, asked, made=asked.digest, results=[result])
    assert not is_due(request_file, result)


@pytest.mark.parametrize(
    "changed",
    [
        Request("fused", {"k": 6}, PHOTOS),
        Request("fused", {"k": 5}, PHOTOS[:1]),
        Request("fused", {"k": 5}, PHOTOS[::-1]),
        Request("fused", {"k": 5}, (PHOTOS[0], Photo("b", "x/b.jpg", 20, 2_001))),
        Request("fused", {"k": 5}, (PHOTOS[0], Photo("b", "x/b.jpg", 21, 2_000))),
        Request("fused", {"k": 5, "seed": 0}, PHOTOS),
    ],
)
def test_what_differs_is_due_even_if_it_was_made_in_the_future(request_file, result, changed):
    future = result.stat().st_mtime_ns + 3_600_000_000_000
    os.utime(result, ns=(future, future))
    made = Request("fused", {"k": 5}, PHOTOS).digest
    requests.place(request_file, changed, made=made, results=[result])
    assert is_due(request_file, result)


def test_a_setting_that_is_put_back_before_a_run_makes_nothing_due(request_file, result):
    first, second = (Request("fused", {"k": k}, PHOTOS) for k in (5, 6))
    requests.place(request_file, first, made=first.digest, results=[result])
    requests.place(request_file, second, made=first.digest, results=[result])
    assert is_due(request_file, result)
    requests.place(request_file, first, made=first.digest, results=[result])
    assert not is_due(request_file, result)


def test_a_result_of_unknown_origin_is_due(request_file, result):
    requests.place(request_file, Request("fused", {}, PHOTOS), made=None, results=[result])
    assert is_due(request_file, result)


def test_a_moved_data_set_is_no_other(request_file, result):
    asked = Request("fused", {"k": 5}, PHOTOS)
    requests.place(request_file, asked, made=asked.digest, results=[result])
    moved = Request("fused", {"k": 5}, [Photo("a", "y/a.jpg", 10, 1_000), PHOTOS[1]])
    requests.place(request_file, moved, made=asked.digest, results=[result])
    assert not is_due(request_file, result)
    assert requests.read(request_file).photos[0].path == "y/a.jpg"


def test_what_is_due_is_asked_for_in_other_bytes(request_file, result):
    """Snakemake compares checksums with those of the last run in the same checkout."""
    asked = Request("fused", {"k": 5}, PHOTOS)
    requests.place(request_file, asked, made=asked.digest, results=[result])
    before = request_file.read_bytes()
    requests.place(request_file, asked, made=None, results=[result])
    assert request_file.read_bytes() != before and is_due(request_file, result)
    assert requests.read(request_file) == asked
    future = request_file.stat().st_mtime_ns + 3_600_000_000_000
    os.utime(request_file, ns=(future, future))
    request_file.write_bytes(before)
    requests.place(request_file, asked, made=None, results=[result])
    assert request_file.read_bytes() != before


def test_inputs_that_a_copy_dated_later_make_nothing_due(tmp_path, request_file, result):
    asked, source = Request("masks", {}), tmp_path / "input"
    source.touch()
    later = result.stat().st_mtime_ns + 5_000_000_000
    os.utime(source, ns=(later, later))
    requests.place(request_file, asked, made=asked.digest, results=[result], inputs=[source])
    assert result.stat().st_mtime_ns >= later and not is_due(request_file, result)


@pytest.mark.parametrize("changed", ["inputs", "results"])
def test_a_record_of_other_files_answers_nothing(tmp_path, changed):
    asked, digests = Request("masks", {}), {"inputs": "a", "results": "b"}
    requests.answer(tmp_path / "record.json", asked, **digests)
    assert requests.answered(tmp_path / "record.json", **digests) == asked.digest
    digests[changed] = "c"
    assert requests.answered(tmp_path / "record.json", **digests) is None


def test_planning_twice_changes_no_date(request_file, result):
    asked = Request("fused", {"k": 6}, PHOTOS)
    requests.place(request_file, asked, made=None, results=[result])
    first = request_file.stat().st_mtime_ns
    requests.place(request_file, asked, made=None, results=[result])
    assert request_file.stat().st_mtime_ns == first


def test_reading_gives_back_what_was_written(request_file):
    asked = Request("masks", {"k": 5, "weights": None}, PHOTOS)
    requests.place(request_file, asked, made=None, results=[])
    assert requests.read(request_file) == Request("masks", {"k": 5, "weights": None}, PHOTOS)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("x/a.jpg", "x/b.jpg"),
        lambda text: text.replace("1000", "1001"),
        lambda text: text.replace('"k"', '"K"'),
        lambda text: "",
        lambda text: "[]",
    ],
)
def test_a_damaged_request_is_refused_and_written_again(request_file, damage):
    asked = Request("fused", {"k": 5}, PHOTOS)
    requests.place(request_file, asked, made=None, results=[])
    request_file.write_text(damage(request_file.read_text()))
    with pytest.raises(RunError, match=r"shard-00000\.json"):
        requests.read(request_file)
    requests.place(request_file, asked, made=None, results=[])
    assert requests.read(request_file) == asked


def test_an_image_that_vanished_is_listed(tmp_path):
    assert Photo.of("x", str(tmp_path / "x.jpg")).size == -1
