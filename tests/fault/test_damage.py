"""A small share of `python -m tests.fault damage`; docs/reliability.md has the figures."""

from __future__ import annotations

import os
import random
import signal
import time

from tests.fault import damage, watchdog
from tests.fault.table import Row, formatted


def test_every_fault_changes_the_file():
    data = bytes(range(256)) * 20
    assert all(damage.damaged(data, random.Random(seed)) != data for seed in range(300))


def test_hangs_crashes_and_other_data_are_counted_and_the_cases_after_them_run(tmp_path):
    def case(number):
        match number:
            case 3:
                time.sleep(60)
            case 4:
                os.kill(os.getpid(), signal.SIGKILL)
            case 6:
                return "faked", "other data"
        return "", ""

    rows = [Row("even"), Row("odd")]
    deadline = time.monotonic() + 60
    cases = watchdog.Cases(lambda slot: case, 10, deadline, limit=1.0, notes=tmp_path / "notes")
    watchdog.run(rows, cases, processes=2)
    assert [(row.tried, row.faked, row.hangs, row.obscure) for row in rows] == [
        (5, 1, 0, 1),
        (5, 0, 1, 0),
    ]
    assert "faked: other data" in formatted(rows) and "all" in formatted(rows)
