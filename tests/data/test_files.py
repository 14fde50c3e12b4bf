"""Files are whole or absent."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from data.files import atomic_path, sha256


def test_the_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.suffix == ".txt"
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_others_may_read_the_file(tmp_path):
    target = tmp_path / "a.txt"
    with atomic_path(target):
        pass
    (tmp_path / "b.txt").write_text("made the ordinary way")
    assert target.stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "folder").write_text("a file")
    inside = atomic_path(tmp_path / "folder" / "a.txt")
    with pytest.raises(OSError, match=r"cannot write .*folder/a\.txt"), inside:
        pass


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fails_is_named_and_the_old_file_stays(tmp_path, monkeypatch, call):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    if call == "replace":
        monkeypatch.setattr("pathlib.Path.replace", fail)
    failure = pytest.raises(OSError, match=r"cannot write .*a\.txt: Input/output error")
    with failure, atomic_path(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    script = (
        "import sys, time; from data.files import atomic_path\n"
        f"with atomic_path({str(target)!r}) as t:\n"
        "    t.write_text('half'); print('writing', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert target.read_text() == "old"


def test_sha256_is_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")
