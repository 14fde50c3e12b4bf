"""Shards: a mapping from id to eigenpairs that never shows wrong data, whatever befalls a file."""

import json
import pickle
import random
import resource
import signal
import subprocess
import sys
import time
from multiprocessing import get_context

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigen.pairs import Cells, Eigenpairs
from eigen.store import shards
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
    return arrays and (one.solver, one.size, one.grid) == (other.solver, other.size, other.grid)


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
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
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
        assert file.attrs["format"] == "eigenshape-eigenvectors"
        assert json.loads(file.attrs["config"]) == {"k": 5}
        assert {"extractor", "software", "version", "weights_sha256"} <= set(file.attrs)
        kinds = {name: (dataset.shape, dataset.dtype.str) for name, dataset in file.items()}
        assert kinds["vectors"] == ((sum((3 + i) * 5 for i in range(4)), 3), "<f4")
        assert kinds["eigenvalues"] == ((4, 3), "<f8")
        assert kinds["residual"] == ((4, 3), "<f4")
        assert kinds["offset"] == ((5,), "<i8")
        assert kinds["size"][0] == kinds["grid"][0] == (4, 2)
        assert kinds["id"][0] == kinds["solver"][0] == (4,)
        assert file["vectors"].fletcher32
        assert np.isnan(file["vectors"].fillvalue)


def test_a_folder_without_shards_is_named(tmp_path):
    with pytest.raises(ShardError, match=r"no shard .*snakemake"):
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
    with pytest.raises(ShardError, match=r"shard-00001.h5: SHA-256 is"):
        shards.open(path, verify=True)
    files[1].unlink()
    with pytest.raises(ShardError, match=r"shard-00001.h5: listed in manifest.json but missing"):
        shards.open(path)


def test_another_version_is_refused_by_name(folder):
    path = folder[0] / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 99
    with pytest.raises(ShardError, match=r"shard-00000.h5: expected .* version 1, found .* 99"):
        shards.Shard(path).ids()


def test_a_missing_dataset_is_named(folder):
    path = folder[0] / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        del file["residual"]
    with pytest.raises(ShardError, match=r"dataset 'residual' cannot be read"):
        shards.Shard(path).pairs(0)


def test_rows_that_were_never_written_are_refused(folder):
    path = folder[0] / "shard-00000.h5"
    with h5py.File(path, "r+") as file:
        file["vectors"][-1] = np.nan
    assert shards.Shard(path).pairs(0).k == 3
    with pytest.raises(ShardError, match="never written"):
        shards.Shard(path).pairs(3)


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


@pytest.mark.parametrize(("where", "least"), [("header", 10), ("anywhere", 120)])
def test_no_flipped_bit_shows_wrong_data(folder, where, least):
    path, members = folder
    whole = bytearray((path / "shard-00000.h5").read_bytes())
    random.seed(0)
    refused = 0
    for _ in range(150):
        place = random.randrange(3000 if where == "header" else len(whole))
        bit = 1 << random.randrange(8)
        whole[place] ^= bit
        found = _read_all(_damaged(path, whole))
        whole[place] ^= bit
        refused += found is None
        assert found is None or (
            len(found) == 4 and all(same(found[id], members[id]) for id in found)
        ), f"bit {bit} of byte {place}"
    assert refused >= least


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path):
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*shard.h5: File too large"):
            write(tmp_path / "shard.h5", {str(i): made_pairs(i, grid=(40, 40)) for i in range(20)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert list(tmp_path.iterdir()) == []


def test_a_photo_that_fails_leaves_no_shard(tmp_path):
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
