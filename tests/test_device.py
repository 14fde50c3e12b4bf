"""Run `device_cases.py` in a process of its own: its device changes torch for good."""

import os
import re
import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).with_name("device_cases.py")


def test_every_path_runs_on_a_device_that_is_not_the_cpu():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)]
    environment = os.environ | {"PYTHONPATH": str(CASES.parents[1])}
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(
        command, env=environment, cwd=CASES.parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= CASES.read_text().count("\ndef test_")
