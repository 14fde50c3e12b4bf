"""A small share of each kind of fault; docs/reliability.md has the figures of more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARES = {
    "damage": ("--count", "435"),
    "hostile": ("--count", "29"),
    "acts": ("--count", "8"),
    "kill": ("--count", "12", "--only", "stages"),
    "disk": ("--count", "36", "--only", "stages"),
}


@pytest.mark.parametrize("fault", SHARES)
def test_a_small_share_breaks_no_promise(fault):
    # In a process without threads, which forks as often as it likes.
    words = [sys.executable, "-m", "tests.fault", fault, *SHARES[fault], "--processes", "1"]
    result = subprocess.run(
        [*words, "--budget", "4m"], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    tried = re.search(r"^all +(\d+)", result.stdout, re.MULTILINE)
    assert tried and tried[1] == SHARES[fault][1]
