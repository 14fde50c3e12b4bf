"""Files are whole or absent."""

import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data.files import (
    atomic_files,
    atomic_path,
    check_writable,
    expanded,
    is_file_name,
    read_stamped,
    sha256,
)
from tests.fault.rights import without_override


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


def writing(target, then="time.sleep(60)"):
    script = (
        "import sys, time; from data.files import atomic_path\n"
        f"with atomic_path({str(target)!r}) as t:\n"
        f"    t.write_text('half'); print('writing', flush=True); {then}"
    )
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    writer.stdout.readline()
    return writer


@pytest.mark.parametrize("name", ["a.txt", "shard-00000.h5", "no suffix", "long" * 60 + ".png"])
def test_dead_temporary_files_go_when_the_file_is_made_next(tmp_path, name):
    target = tmp_path / name
    writers = [writing(target) for _ in range(3)]
    assert len(list(tmp_path.iterdir())) == 3
    for writer in writers:
        writer.kill()
        writer.communicate()
    assert all(path.name.startswith(".") for path in tmp_path.iterdir())
    with atomic_path(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_temporary_files_of_living_writers_stay(tmp_path):
    target = tmp_path / "a.txt"
    writer = writing(target)
    try:
        with atomic_path(target) as temporary:
            temporary.write_text("new")
        assert target.read_text() == "new"
        assert len(list(tmp_path.iterdir())) == 2
    finally:
        writer.kill()
        writer.communicate()


def test_several_files_are_each_whole_or_absent(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_files(tmp_path / "new", "x") as write:
        write("a", b"whole")
        write("b", b"")
        raise RuntimeError
    assert {p.name: p.read_bytes() for p in (tmp_path / "new").iterdir()} == {
        "a": b"whole",
        "b": b"",
    }
    assert (tmp_path / "new/a").stat().st_mode == (tmp_path / "a").stat().st_mode
    (tmp_path / "new/c").mkdir()
    refused = pytest.raises(OSError, match=r"cannot write .*new/c: ")
    with refused, atomic_files(tmp_path / "new", "x") as write:
        write("c", b"")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"a", "b", "c"}


def test_what_a_dead_writer_of_several_files_left_goes_when_they_are_made_next(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from data.files import atomic_files\n"
        f"with atomic_files(Path({str(tmp_path)!r}), 'x') as write:\n"
        "    write('a', b'1'); os.rename = lambda *names: os.kill(os.getpid(), 9); write('b', b'2')"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    assert len(list(tmp_path.iterdir())) == 3
    with atomic_files(tmp_path, "x") as write:
        write("a", b"3")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"3"}


def test_whether_a_folder_can_be_written_is_found_without_writing_a_file(tmp_path):
    check_writable(tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write .*file: .*file is a file, expected a folder"):
        check_writable(tmp_path / "file")


def test_many_writers_of_one_file(tmp_path):
    """Threads that publish one name again and again never show a half, and leave nothing."""
    target = tmp_path / "a.txt"

    def write(number):
        for _ in range(30):
            with atomic_path(target, durable=False) as temporary:
                temporary.write_text(str(number) * 2000)
            found = target.read_text()
            assert found == found[0] * 2000

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(write, range(10)))
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_stamp_is_of_the_bytes_read(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    content, stamp = read_stamped(tmp_path / "a")
    assert (content, stamp.size) == (b"abc", 3)
    assert stamp.sha256 == sha256(tmp_path / "a")
    assert stamp.mtime_ns == (tmp_path / "a").stat().st_mtime_ns


def test_names_that_lead_out_of_a_folder():
    assert all(map(is_file_name, ["2007_000033", "a b.h5", "é", "a__b", "x..y"]))
    assert not any(map(is_file_name, ["", ".", "..", ".x", "a/b", "/x", "../x", "a\0b"]))


def test_a_short_write_of_numpy_names_the_file(tmp_path):
    path = tmp_path / "table.npy"
    message = f"cannot write {path}: 10240 requested and 527 written"
    with pytest.raises(OSError, match=message), atomic_path(path):
        raise OSError("10240 requested and 527 written")
    assert not list(tmp_path.iterdir())


def test_a_pipe_has_no_digest_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(OSError, match=r"expected a regular file, found a pipe"):
        sha256(tmp_path / "pipe.png")


def test_the_home_of_nobody_is_a_name(monkeypatch):
    assert expanded("~nobody-at-all/x") == Path("~nobody-at-all/x")
    monkeypatch.setenv("HOME", "/somewhere")
    assert expanded("~/x") == Path("/somewhere/x")


def test_a_name_that_is_too_long_is_the_one_that_is_named(tmp_path):
    path, expected = tmp_path / f"{'n' * 300}.png", r"cannot write .*n\.png: File name too long"
    with pytest.raises(OSError, match=expected) as error, atomic_path(path) as temporary:
        temporary.write_bytes(b"")
    assert ".tmp-" not in str(error.value) and not list(tmp_path.iterdir())


def test_a_folder_that_may_not_be_written_is_called_so(tmp_path):
    tmp_path.chmod(0o555)
    try:
        with without_override(), pytest.raises(PermissionError, match="Permission denied"):
            check_writable(tmp_path)
    finally:
        tmp_path.chmod(0o755)
