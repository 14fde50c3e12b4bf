"""Streaming gives the results of the plain path, in order; here on the CPU."""

import threading

import numpy as np
import pytest
from PIL import Image

from eigen.picture import reduced
from eigen.solvers import batch
from pipeline import chain, streaming
from pipeline.config import resolve
from pipeline.manifest import Entry
from pipeline.streaming import stream, streams
from tests.pictures import scene

NETWORK = {"extractor": "dino_vits16", "weights": "random:1", "device": "cpu", "batch_size": 2}


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    members = []
    for number, (height, width) in enumerate([(272, 288), (288, 272), (272, 288), (48, 64)]):
        path = folder / f"photo{number}.png"
        Image.fromarray(scene(height, width, number)).save(path)
        members.append(Entry(f"photo{number}", str(path), 0))
    (folder / "broken.jpg").write_bytes(b"")
    members.insert(2, Entry("broken", str(folder / "broken.jpg"), 0))
    Image.new("RGB", (10, 10)).save(folder / "tiny.png")
    return [*members, Entry("tiny", str(folder / "tiny.png"), 0)]


def test_streaming_agrees_with_the_plain_path(entries):
    config = resolve(NETWORK)
    plain = list(map(chain.Fused(config), entries))
    streamed = list(stream(entries, config, workers=1))
    assert [outcome.id for outcome in streamed] == [entry.id for entry in entries]
    for one, other in zip(plain, streamed, strict=True):
        assert (one.value is None) == (other.value is None)
        assert one.reason == other.reason
        if one.value is None:
            continue
        assert other.value.pairs.residual.max() <= config.solve.tolerance
        assert other.value.pairs.size == one.value.pairs.size
        np.testing.assert_allclose(
            other.value.pairs.eigenvalues, one.value.pairs.eigenvalues, atol=1e-5
        )
        assert (
            np.abs(np.abs(other.value.pairs.vectors) - np.abs(one.value.pairs.vectors)).max() < 1e-3
        )
    assert {o.id for o in streamed if o.value is None} == {"broken", "tiny"}


def test_windows_and_batches_change_nothing(entries, monkeypatch):
    whole = list(stream(entries, resolve(NETWORK), workers=1))
    monkeypatch.setattr("pipeline.streaming.BATCHES_IN_WINDOW", 1)
    pieces = list(stream(entries, resolve({**NETWORK, "batch_size": 1}), workers=1))
    for one, other in zip(whole, pieces, strict=True):
        assert one.id == other.id
        if one.value is not None:
            assert one.value.pairs.vectors.tobytes() == other.value.pairs.vectors.tobytes()


def test_images_are_read_two_windows_ahead_and_no_further(entries, monkeypatch):
    monkeypatch.setattr("pipeline.streaming.BATCHES_IN_WINDOW", 1)
    taken = []

    def endless():
        for number in range(100):
            taken.append(number)
            yield entries[number % 2]

    results = stream(endless(), resolve({**NETWORK, "batch_size": 1}), workers=1)
    next(results)
    assert len(taken) <= 3
    results.close()


def test_features_of_the_next_window_are_computed_during_a_solve(entries, monkeypatch):
    monkeypatch.setattr("pipeline.streaming.BATCHES_IN_WINDOW", 1)
    extracted, second = [], threading.Event()

    def extracting(*arguments, extract=streaming.extract):
        extracted.append(extract(*arguments))
        if len(extracted) == 2:
            second.set()
        return extracted[-1]

    def solving(*arguments, solve_batch=batch.solve_batch, **options):
        assert second.wait(30), "the first window was solved before the second was begun"
        return solve_batch(*arguments, **options)

    monkeypatch.setattr(streaming, "extract", extracting)
    monkeypatch.setattr(batch, "solve_batch", solving)
    found = list(stream(entries[:2], resolve({**NETWORK, "batch_size": 1}), workers=1))
    assert [outcome.reason for outcome in found] == ["", ""]


def test_an_error_in_the_features_reaches_the_caller(entries, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(streaming, "extract", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(stream(entries, resolve(NETWORK), workers=1))


def test_only_a_network_on_a_gpu_streams():
    assert not streams(resolve({"extractor": "lowlevel"}))
    assert not streams(resolve(NETWORK))


def test_an_image_of_too_many_patches_is_reduced_in_proportion():
    small = reduced(np.zeros((400, 1200, 3), np.uint8), 4, max_patches=1000)
    h, w = small.shape[0] // 4, small.shape[1] // 4
    assert 800 < h * w <= 1000
    assert small.shape[1] / small.shape[0] == pytest.approx(3, rel=0.02)
    assert reduced(small, 4, max_patches=1000) is small


@pytest.mark.gpu
def test_a_gpu_streams(entries):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    config = resolve({**NETWORK, "device": "cuda"})
    assert streams(config)
    found = [o for o in stream(entries, config, workers=2) if o.value is not None]
    assert len(found) == 4
    assert all(o.value.pairs.residual.max() <= config.solve.tolerance for o in found)
