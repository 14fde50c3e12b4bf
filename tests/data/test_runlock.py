"""One run at a time on a folder of results."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from data import runlock
from data.errors import RunError

_OTHER = (
    "import sys; from data import runlock; runlock.claim(sys.argv[1], elsewhere='go away'); "
    "print('held', flush=True); sys.stdin.read()"
)


def test_two_runs_on_one_folder(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", _OTHER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as other:
        assert other.stdout.readline() == b"held\n"
        message = f"in use by another run .process {other.pid} on .* stop it, or take another$"
        with pytest.raises(RunError, match=message):
            runlock.claim(tmp_path, elsewhere="take another")
        other.kill()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a lock that is kept is no file that was left open
        runlock.claim(tmp_path, elsewhere="")
    runlock.claim(tmp_path, elsewhere="")


def test_a_lock_for_a_block_is_let_go(tmp_path):
    with runlock.held(tmp_path, elsewhere=""), runlock.held(tmp_path, elsewhere=""):
        pass
    with (tmp_path / runlock.FILE).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_file_system_without_locks_is_reported(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with runlock.held(tmp_path, elsewhere=""):
        assert "has no locks; start one run at a time" in caplog.text
