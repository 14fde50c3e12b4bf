"""No damaged JSON object or table is read as something else."""

import random

import pytest

from data.errors import RunError
from data.sealed import read_json, read_table, write_json, write_table

HEADER = ("id", "reason")
ROWS = [["a", "x, y"], ["é", 'say "no"'], ["#c", "two\nlines"], ["d\udce9", ""]]
CONTENT = {"b": [1, 2.5, None], "a": {"é": "x"}, "empty": []}


def test_what_is_written_is_read(tmp_path):
    write_table(tmp_path / "t.csv", HEADER, ROWS)
    assert [list(row.values()) for row in read_table(tmp_path / "t.csv", HEADER, RunError)] == ROWS
    write_table(tmp_path / "t.csv", HEADER, [])
    assert read_table(tmp_path / "t.csv", HEADER, RunError) == []
    write_json(tmp_path / "a.json", CONTENT)
    assert read_json(tmp_path / "a.json", RunError) == CONTENT


@pytest.mark.parametrize("damage", ["flip", "cut", "insert", "drop a line"])
def test_no_damage_is_read_as_something_else(tmp_path, damage):
    write_table(tmp_path / "t.csv", HEADER, ROWS)
    write_json(tmp_path / "a.json", CONTENT)
    rng = random.Random(0)
    for name, read in (
        ("t.csv", lambda path: [list(r.values()) for r in read_table(path, HEADER, RunError)]),
        ("a.json", lambda path: read_json(path, RunError)),
    ):
        whole = (tmp_path / name).read_bytes()
        for _ in range(200):
            place = rng.randrange(len(whole))
            damaged = {
                "flip": whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)])
                + whole[place + 1 :],
                "cut": whole[:place],
                "insert": whole[:place] + rng.randbytes(1) + whole[place:],
                "drop a line": b"".join(
                    line for line in whole.splitlines(keepends=True) if rng.random() > 0.2
                ),
            }[damage]  # fmt: skip
            path = tmp_path / f"damaged-{name}"
            path.write_bytes(damaged)
            try:
                found = read(path)
            except RunError as error:
                assert str(path) in str(error)
                continue
            assert found == read(tmp_path / name)


def test_a_file_without_a_seal_is_read_only_where_it_is_older(tmp_path):
    (tmp_path / "a.json").write_text('{"version": 1, "x": 2}')
    assert read_json(tmp_path / "a.json", RunError, unsealed=("version", 1))["x"] == 2
    with pytest.raises(RunError, match="does not match its digest"):
        read_json(tmp_path / "a.json", RunError)
