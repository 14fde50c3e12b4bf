"""Shards: a mapping from id to eigenpairs that never returns wrong data from damaged files."""

import errno
import json
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.files import is_file_name
from data.sealed import write_json
from eigen.pairs import Cells, Eigenpairs
from eigen.store import packed, sealed, shards
from eigen.store.shards import ShardError

ABOUT = {"config": {"k": 5}, "software": "0", "extractor": "lowlevel", "weights_sha256": ""}


def made_pairs(seed, k=3, grid=(4, 6)):
    rng = np.random.default_rng(seed)
    return Eigenpairs(
        eigenvalues=np.sort(rng.random(k)),
        vectors=rng.standard_normal((k, *grid)).astype(np.float32),
        residual=rng.random(k).astype(np.float32),
        solver=f"solver {seed % 2}",
        size=(16 * grid[0] + 3, 16 * grid[1]),
        cells=Cells.of_patches(16),
    )


def same(one, other):
    arrays = all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("eigenvalues", "vectors", "residual")
    )
    names = ("solver", "size", "grid", "cells")
    return arrays and all(getattr(one, name) == getattr(other, name) for name in names)


def write(path, members):
    with shards.create(path, **ABOUT) as append:
        for id, pairs in members.items():
            append(id, pairs)
    return path


@pytest.fixture
def folder(tmp_path):
    members = {f"photo {i} é": made_pairs(i, grid=(3 + i, 5)) for i in range(6)}
    ids = list(members)
    write(tmp_path / "shard-00000.h5", {id: members[id] for id in ids[:4]})
    write(tmp_path / "shard-00001.h5", {id: members[id] for id in ids[4:]})
    return tmp_path, members


@given(
    st.dictionaries(
        st.text(
            st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1
        ).filter(is_file_name),
        st.tuples(st.integers(0, 99), st.integers(1, 5), st.integers(1, 5)),
        max_size=8,
    ),
    st.integers(1, 4),
)
@settings(max_examples=25)
def test_a_folder_of_shards_behaves_like_a_dict(tmp_path_factory, photos, shard_size):
    folder = tmp_path_factory.mktemp("shards")
    members = {id: made_pairs(seed, grid=(h, w)) for id, (seed, h, w) in photos.items()}
    ids = list(members)
    for number, start in enumerate(range(0, max(1, len(ids)), shard_size)):
        chunk = ids[start : start + shard_size]
        write(folder / f"shard-{number:05d}.h5", {id: members[id] for id in chunk})
    with shards.open(folder) as found:
        assert list(found) == ids
        assert len(found) == len(ids)
        assert all(same(found[id], members[id]) for id in ids)
        with pytest.raises(KeyError):
            found["none of them" * 20]


def test_the_published_layout(folder):
    with h5py.File(folder[0] / "shard-00000.h5") as file:
        assert file.attrs["format"] == b"eigenshape-eigenvectors"
        assert file.attrs["version"] == 2
        assert json.loads(file.attrs["config"]) == {"k": 5}
        assert {"extractor", "software", "version", "weights_sha256"} <= set(file.attrs)
        kinds = {name: (dataset.shape, dataset.dtype.str) for name, dataset in file.items()}
        assert kinds["vectors"] == ((sum((3 + i) * 5 for i in range(4)), 3), "<f4")
        assert kinds["eigenvalues"] == ((4, 3), "<f8")
        assert kinds["residual"] == ((4, 3), "<f4")
        assert kinds["offset"] == ((5,), "<i8")
        assert kinds["size"][0] == kinds["grid"][0] == (4, 2)
        assert kinds["id"][0] == kinds["solver"][0] == (4,)
        assert kinds["cells"] == ((4, 4), "<f8")
        strings = [h5py.check_string_dtype(file[name].dtype) for name in ("id", "solver", "sha256")]
        strings += [
            h5py.check_string_dtype(file.attrs.get_id(name).dtype)
            for name in ("format", "config", "extractor", "software", "weights_sha256")
        ]
        assert all(string.length is not None for string in strings)  # of fixed length


def test_a_folder_without_shards_is_named(tmp_path):
    with pytest.raises(ShardError, match=r"expected shards .*snakemake"):
        shards.open(tmp_path)


def test_one_id_in_two_shards_is_refused(folder):
    write(folder[0] / "shard-00002.h5", {"photo 1 é": made_pairs(9)})
    with pytest.raises(ShardError, match=r"'photo 1 é' is also in .*shard-00000"):
        shards.open(folder[0])


def test_the_manifest_finds_what_changed_since(folder):
    path, members = folder
    files = sorted(path.glob("*.h5"))
    shards.write_manifest(path, files)
    with shards.open(path, verify=True) as found:
        assert all(same(found[id], members[id]) for id in members)
    write(files[1], {"another": made_pairs(3)})
    assert not (path / "manifest.json").exists()  # it tells of the shard that was there before
    shards.write_manifest(path, files)
    files[1].unlink()
    with pytest.raises(ShardError, match=r"shard-00001.h5: listed in manifest.json but missing"):
        shards.open(path)


def test_another_version_is_refused_by_name(tmp_path):
    path = tmp_path / "shard-00000.h5"
    with packed.create(path, packed.Format(shards.FORMAT.kind, 99, {}), {}):
        pass
    with pytest.raises(ShardError, match=r"shard-00000.h5: expected .* version 2, found .* 99"):
        shards.Shard(path).ids()


def test_a_missing_dataset_is_named(tmp_path):
    path = tmp_path / "shard-00000.h5"
    with packed.create(path, shards.FORMAT, {}) as writer:
        writer.append({"vectors": np.zeros((4, 3), np.float32)}, id="a")
    with pytest.raises(ShardError, match="has no dataset 'size'"):
        shards.Shard(path).pairs(0)


def test_pairs_of_another_number_are_refused(tmp_path):
    with (
        pytest.raises(ShardError, match=r"vectors: expected rows of \(3,\) float32"),
        shards.create(tmp_path / "a.h5", **ABOUT) as append,
    ):
        append("one", made_pairs(0))
        append("two", made_pairs(1, k=4))


@pytest.mark.parametrize("id", ["../x", "/x", "a/b", ".x", "", "..", "a\0b"])
def test_ids_with_path_parts_are_refused(tmp_path, monkeypatch, id):
    with (
        pytest.raises(ShardError, match="without path parts"),
        shards.create(tmp_path / "a.h5", **ABOUT) as append,
    ):
        append(id, made_pairs(0))
    with monkeypatch.context() as patched:  # a file of somebody who does not check
        patched.setattr(shards, "is_file_name", lambda name: True)
        write(tmp_path / "a.h5", {id: made_pairs(0)})
    if "\0" not in id and id:  # HDF5 ends its strings there
        with pytest.raises(ShardError, match="without path parts"):
            shards.Shard(tmp_path / "a.h5").ids()


@pytest.mark.parametrize("name", ["../shard-00000.h5", "/x.h5", ".hidden.h5"])
def test_names_with_path_parts_in_the_manifest_are_refused(folder, name):
    path = folder[0] / "inner"
    path.mkdir()
    entry = {"seal": "", "sha256": "", "ids": ["a"]}
    write_json(path / "manifest.json", {"version": 2, "shards": {name: entry}})
    with pytest.raises(ShardError, match=r"manifest.json: expected a name without path parts"):
        shards.open(path)


def test_a_manifest_of_another_run_gives_no_wrong_vectors(folder):
    """A shard made again by name, its folder not yet indexed: ids of the manifest, other rows."""
    path, members = folder
    files = sorted(path.glob("*.h5"))
    shards.write_manifest(path, files)
    manifest = (path / "manifest.json").read_bytes()
    write(files[0], dict(list(members.items())[3::-1]))
    assert not (path / "manifest.json").exists()
    (path / "manifest.json").write_bytes(manifest)
    with pytest.raises(
        ShardError, match=r"shard-00000.h5: expected the seal .*stage `index` again"
    ):
        shards.open(path)


def test_a_shard_replaced_while_in_use_is_refused(folder):
    path, members = folder
    files = sorted(path.glob("*.h5"))
    shards.write_manifest(path, files)
    with shards.open(path) as found:
        write(files[0], dict(list(members.items())[3::-1]))
        with pytest.raises(ShardError, match=r"shard-00000.h5: its images are not those"):
            found["photo 0 é"]


def test_no_damaged_manifest_is_read(folder):
    path, members = folder
    manifest = shards.write_manifest(path, sorted(path.glob("*.h5")))
    whole = manifest.read_bytes()
    rng = random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        manifest.write_bytes(damaged)
        try:
            found = shards.open(path)
        except ShardError:
            continue
        assert list(found) == list(members)


def test_what_the_machine_forbids_is_not_called_damage(folder):
    path = folder[0] / "shard-00000.h5"
    shards.write_manifest(folder[0], sorted(folder[0].glob("*.h5")))

    def refuse(*arguments, **keywords):
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sealed.os, "open", refuse)
        for call in (shards.Shard(path).ids, lambda: shards.open(folder[0])):
            with pytest.raises(OSError, match=r"cannot read .*shard-00000.h5: Too many") as caught:
                call()
            assert not isinstance(caught.value, ShardError)


def test_few_files_are_open_at_a_time(tmp_path):
    ids = [f"{i:03d}" for i in range(60)]
    for id in ids:
        write(tmp_path / f"shard-{id}.h5", {id: made_pairs(int(id))})
    shards.write_manifest(tmp_path, sorted(tmp_path.glob("*.h5")))
    before = len(list(Path("/proc/self/fd").iterdir()))
    with shards.open(tmp_path) as found:
        for id in ids * 2:
            assert same(found[id], made_pairs(int(id)))
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 16


def test_temporary_files_are_no_shards(folder):
    path, members = folder
    (path / ".tmp-0123-0.h5").write_bytes(b"half")
    (path / ".shard-00009.abc.h5").write_bytes((path / "shard-00000.h5").read_bytes())
    assert list(shards.open(path)) == list(members)


def test_version_1_is_read(tmp_path):
    golden = Path(__file__).parents[2] / "golden" / "version1"
    with shards.open(golden, verify=True) as found:
        assert list(found) == ["image 0 é", "image 1 é"]
        for number, pairs in enumerate(found.values()):
            expected = np.load(golden / f"image-{number}.npz")
            for name in ("eigenvalues", "vectors", "residual"):
                np.testing.assert_array_equal(getattr(pairs, name), expected[name])
            assert pairs.size == tuple(expected["size"])
            assert pairs.cells == Cells.inferred(pairs.size, pairs.grid)
        shard, row = found.place("image 1 é")
        assert shard.table()["sha256"][row] == ""
        assert shard.attributes()["config"] == {"k": 3, "extractor": "lowlevel"}
    damaged = bytearray((golden / "shard-00000.h5").read_bytes())
    damaged[600] ^= 1
    (tmp_path / "shard-00000.h5").write_bytes(damaged)
    shutil.copy(golden / "manifest.json", tmp_path)
    with (
        shards.open(tmp_path) as found,
        pytest.raises(ShardError, match="expected SHA-256"),
    ):
        found["image 0 é"]


def _read_all(path):
    """What a reader sees of a damaged shard: its pairs, or None where it was refused."""
    shard = shards.Shard(path)
    try:
        return {id: shard.pairs(index) for index, id in enumerate(shard.ids())}
    except ShardError:
        return None
    finally:
        shard.close()


def _damaged(folder, content):
    """A new file: HDF5 would show what it has in memory of one that it has open or had just now."""
    path = folder / f"damaged-{len(list(folder.iterdir()))}.h5"
    path.write_bytes(content)
    return path


def test_no_truncated_file_shows_wrong_data(folder):
    path, _ = folder
    whole = (path / "shard-00000.h5").read_bytes()
    for length in [*range(0, len(whole), len(whole) // 100), len(whole) - 1]:
        assert _read_all(_damaged(path, whole[:length])) is None, f"{length} of {len(whole)} bytes"


def test_every_byte_is_covered(folder):
    """A flipped bit anywhere is refused, in the attributes and the unused bytes too."""
    path, _ = folder
    whole = bytearray((path / "shard-00000.h5").read_bytes())
    rng = random.Random(0)
    for place in [*range(0, len(whole), 41), *range(500, 560), len(whole) - 1]:
        bit = 1 << rng.randrange(8)
        whole[place] ^= bit
        assert _read_all(_damaged(path, whole)) is None, f"bit {bit} of byte {place}"
        whole[place] ^= bit


@pytest.mark.parametrize("start", range(0, 4096, 512))
def test_zeroed_sectors_end_in_an_error(folder, start):
    """Zeros at 512 to 1023 once sent HDF5 into an endless loop."""
    path, _ = folder
    whole = bytearray((path / "shard-00000.h5").read_bytes())
    whole[start : start + 512] = bytes(512)
    assert _read_all(_damaged(path, whole)) is None


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path):
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*shard.h5: File too large"):
            write(tmp_path / "shard.h5", {str(i): made_pairs(i, grid=(40, 40)) for i in range(20)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_fails_leaves_no_shard(tmp_path):
    with pytest.raises(ZeroDivisionError), shards.create(tmp_path / "a.h5", **ABOUT) as append:
        append("one", made_pairs(1))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_never_leaves_a_shard_that_opens(tmp_path):
    script = (
        "from tests.eigen.store.test_shards import *\n"
        f"path = {str(tmp_path / 'shard.h5')!r}\n"
        "print('ready', flush=True)\n"
        "write(path, {str(i): made_pairs(i, grid=(60, 60)) for i in range(300)})"
    )
    finished = 0
    for attempt in range(8):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            time.sleep(0.02 * attempt)
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        if (tmp_path / "shard.h5").exists():
            finished += 1
            found = shards.Shard(tmp_path / "shard.h5")
            assert len(found.ids()) == 300
            assert same(found.pairs(299), made_pairs(299, grid=(60, 60)))
            (tmp_path / "shard.h5").unlink()
    assert finished < 8


def _bytes_of(folder, id):
    return folder[id].vectors.tobytes()


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_read_what_the_parent_reads(folder, start):
    path, members = folder
    with shards.open(path) as found:
        _bytes_of(found, "photo 0 é")  # the parent's handle is open when the workers start
        with get_context(start).Pool(2) as pool:
            read = pool.starmap(_bytes_of, [(found, id) for id in members])
        assert read == [pairs.vectors.tobytes() for pairs in members.values()]
        assert same(found["photo 5 é"], members["photo 5 é"])


def test_pickling_drops_the_open_file(folder):
    shard = shards.Shard(folder[0] / "shard-00000.h5")
    shard.ids()
    assert pickle.loads(pickle.dumps(shard)).ids() == shard.ids()
