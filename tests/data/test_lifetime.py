"""Worker processes end with the one that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.lifetime import Pool

_SCRIPT = """
import os, time
from data.lifetime import Pool

def main():
    with Pool(2) as pool:
        futures = [pool.submit(os.getpid) for _ in range(8)]
        print(*{future.result() for future in futures}, flush=True)
        list(pool.map(time.sleep, [60, 60]))

if __name__ == "__main__":
    main()
"""


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_a_process_that_was_killed(tmp_path, end):
    (tmp_path / "script.py").write_text(_SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        workers = [int(number) for number in parent.stdout.readline().split()]
        assert workers and all(map(_alive, workers))
        parent.send_signal(end)
        parent.wait(20)
        deadline = time.monotonic() + 20
        while any(map(_alive, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(_alive, workers))


def test_workers_leave_an_interrupt_to_the_process_that_started_them():
    # A process started in the background of a shell ignores interrupts from the start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Pool(1) as pool:
            assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
