"""A small share of `python -m tests.fault hostile`; docs/reliability.md has the figures."""

from __future__ import annotations

from tests.fault import hostile
from tests.fault.table import formatted


def test_a_hostile_entry_among_photos_costs_itself_alone():
    rows = hostile.run(len(hostile.CASES), 120, seed=3, processes=1)
    assert all(row.tried == 1 for row in rows)
    assert not sum(row.violations for row in rows), formatted(rows)
