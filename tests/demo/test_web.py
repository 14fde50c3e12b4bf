"""The web page: its answers, and that a real browser shows them and contacts no other host."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from data import weight_files
from data.text.vocabulary import from_names
from demo import guard, web
from eigen.extractors import extractor
from eval.model import Model
from eval.predict import IGNORE, Named
from eval.zegformer import build as zegformer_build
from eval.zegformer.classes import CLIP_DIM
from models.clip.clip import CLIP
from models.sazs import networks as sazs
from models.zegformer.config import flat, replaced
from models.zegformer.settings import ZegFormerSettings
from tests.demo.chromium import CHROMIUM, Browser, until
from tests.demo.settings import SMALL_ZEGFORMER

ROOT = Path(__file__).parents[2]


def left_half(vocabulary):
    """Names the left half of a photo with the first word; "nothing" names nothing."""

    def predict(image):
        labels = np.full(image.shape[:2], IGNORE, np.uint16)
        if vocabulary.names[0] != "nothing":
            labels[:, : image.shape[1] // 2] = 0
        return Named(labels, {c: 0.5 for c in np.unique(labels).tolist() if c != IGNORE})

    return predict


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 60, (96, 128, 3), dtype=np.uint8)
    pixels[20:60, 30:80] += np.uint8(150)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def page():
    return web.Page(
        Model("sazs", "x", from_names(["cat"]), None, left_half), extractor("lowlevel8")
    )


def test_a_photo_and_words_become_masks_legend_and_eigenvectors(page, photo, tmp_path):
    shown = page.answer(str(photo), "cat, <b>, cat,", tmp_path)
    assert shown.overlay.shape == (96, 128, 3)
    assert "50.0 %" in shown.legend and "cat" in shown.legend
    assert len(shown.vectors) == 5 and shown.vectors[0][0].shape == (96, 128, 3)
    assert "Done." in shown.status and "Every pixel" not in shown.status


def test_an_answer_can_be_downloaded(page, photo, tmp_path):
    from pycocotools import mask as rle

    shown = page.answer(str(photo), "cat", tmp_path / "new")
    names = [Path(path).name for path in shown.files]
    assert names == ["photo.png", "photo_labels.png", "photo.json", "photo_coco.json"]
    overlay, labels, scores, coco = map(Path, shown.files)
    assert np.array_equal(np.asarray(Image.open(overlay)), shown.overlay)
    (entry,) = json.loads(coco.read_text())
    assert np.array_equal(
        rle.decode(entry["segmentation"]) > 0, np.asarray(Image.open(labels)) == 0
    )
    assert (entry["category"], entry["bbox"]) == ("cat", [0, 0, 64, 96])
    assert json.loads(scores.read_text())["classes"][0]["share"] == 0.5
    (tmp_path / "none").mkdir()
    shown = page.answer(str(photo), "nothing", tmp_path / "none")
    assert json.loads(Path(shown.files[-1]).read_text()) == []


def test_examples_are_photos_with_words_of_the_packaged_network():
    from eval.sazs.words import PACKAGED

    offered = web.examples()
    known = weight_files.read(PACKAGED).recipe["words"]
    assert len(offered) >= 6 and all(set(example.words) <= set(known) for example in offered)


def test_names_are_text_and_not_html(page, photo, tmp_path):
    assert "&lt;b&gt;" in page.answer(str(photo), "<b>", tmp_path).legend


def test_large_photos_are_reduced(page, tmp_path):
    Image.new("RGB", (3000, 150)).save(tmp_path / "wide.png")
    shown = page.answer(str(tmp_path / "wide.png"), "cat", tmp_path)
    assert shown.overlay.shape == (80, 1600, 3) and "1600 x 80" in shown.status


BAD = {
    "no photo": (None, "cat", "No photo yet"),
    "no words": ("photo", " , ", "No words"),
    "too many words": ("photo", ",".join(map(str, range(101))), "101 words: at most 100"),
    "no image": ("bad.jpg", "cat", "bad.jpg cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_nothing_else(page, photo, tmp_path, case):
    name, words, message = BAD[case]
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    path = {"photo": str(photo), "bad.jpg": str(tmp_path / "bad.jpg")}.get(name)
    shown = page.answer(path, words, tmp_path)
    assert message in shown.status and "\n" not in shown.status
    assert str(tmp_path) not in shown.status
    assert shown == web.Answer(status=shown.status)


def test_missing_masks_and_eigenvectors_are_reported(page, photo, tmp_path):
    shown = page.answer(str(photo), "nothing", tmp_path)
    assert "No mask was accepted" in shown.status and not shown.legend and shown.vectors
    Image.new("RGB", (8, 8)).save(tmp_path / "tiny.png")
    shown = page.answer(str(tmp_path / "tiny.png"), "cat", tmp_path)
    assert "No eigenvectors" in shown.status and shown.overlay is not None


def test_a_missing_gradio_is_reported_with_the_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(web.main, ["--checkpoint", "gone.pth"])
    assert result.exit_code == 1
    assert "gradio is not installed, which the page needs: python -m pip install" in result.output


@contextlib.contextmanager
def served(folder, *options):
    """Address of a page served by another process, whose home is the empty `folder`."""
    command = [sys.executable, "demo/web.py", *map(str, options)]
    log = folder / "log.txt"
    with log.open("w") as file:
        environment = os.environ | {"HOME": str(folder)}
        process = subprocess.Popen(command, cwd=ROOT, stderr=file, env=environment)
        try:
            is_serving = until(lambda: process.poll() or "open http" in log.read_text(), 120)
            assert is_serving is True, log.read_text()
            yield log.read_text().partition("open ")[2].split()[0]
        finally:
            process.terminate()
            process.wait()


@pytest.fixture(scope="module")
def page_weights(tmp_path_factory):
    """A folder, and the options of an untrained SAZS with a table of text embeddings."""
    folder = tmp_path_factory.mktemp("web")
    torch.manual_seed(0)
    weights = folder / "sazs.safetensors"
    arch = "drn_d_22_slim"
    weight_files.write_safetensors(weights, sazs.build(arch).state_dict(), {"arch": arch})
    np.save(folder / "table.npy", np.random.default_rng(0).standard_normal((3, 512)))
    (folder / "names.txt").write_text("cat\nsofa\nwild horse\n")
    return (
        folder, "--checkpoint", weights, "--input-side", "64",
        "--embeddings", folder / "table.npy", "--classes", folder / "names.txt",
    )  # fmt: skip


@pytest.fixture(scope="module")
def address(page_weights):
    """The page of that network."""
    with served(*page_weights) as url:
        yield url


@pytest.fixture(scope="module")
def zegformer_address(tmp_path_factory):
    """The page of a small untrained ZegFormer, with a small CLIP for words and crops."""
    folder = tmp_path_factory.mktemp("web")
    torch.manual_seed(0)
    clip = {"image_size": 32, "width": 64, "layers": 1, "text_width": 64, "text_layers": 1}
    torch.save(CLIP(**clip).state_dict(), folder / "clip.pt")
    changes = SMALL_ZEGFORMER | {
        "MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED": str(folder / "clip.pt"),
        "MODEL.SEM_SEG_HEAD.CLIP_CLASSIFICATION": True,
        "MODEL.MASK_FORMER.ENSEMBLING": True,
    }
    settings = replaced(ZegFormerSettings(), changes)
    model = zegformer_build.network(settings, CLIP_DIM)
    weights = folder / "zegformer.safetensors"
    weight_files.write_safetensors(weights, model.state_dict(), {"config": flat(settings)})
    with served(folder, "--checkpoint", weights) as url:
        yield url


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = Browser(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


def request(address, method, path, headers=(), body=None):
    """Status and text of a response; `headers` may replace Host."""
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Connection": "close", **dict(headers)})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")


def multipart(content):
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    return head + content + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


needs_gradio = pytest.mark.skipif(not importlib.util.find_spec("gradio"), reason="gradio is absent")


@needs_gradio
def test_requests_of_other_hosts_and_pages_are_refused(address):
    own = urlsplit(address).netloc
    body, kind = multipart(b"x")
    for method, path in (("GET", "/"), ("GET", "/config"), ("POST", "/gradio_api/upload")):
        for headers in (
            {"Host": "evil.example"},
            {"Host": f"evil.example:{urlsplit(address).port}"},
            {"Host": "127.0.0.1.evil.example"},
            {"Host": ""},
            {"Host": "[::1"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},
            {"Origin": f"http://evil.example@{own}"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            told = kind | headers if method == "POST" else headers
            sent = body if method == "POST" else None
            status, text = request(address, method, path, told, sent)
            assert (status, "expected" in text) == (403, True), (method, path, headers)
    assert request(address, "GET", "/config")[0] == 200
    assert request(address, "GET", "/config", {"Origin": f"http://{own}"})[0] == 200
    assert request(address, "GET", "/config", {"Host": f"localhost:{own.split(':')[1]}"})[0] == 200


@needs_gradio
def test_uploads_are_limited_and_removed_at_the_end(page_weights):
    with served(*page_weights) as address:
        body, kind = multipart(b"x" * 1000)
        status, text = request(address, "POST", "/gradio_api/upload", kind, body)
        (path,) = json.loads(text)
        assert status == 200 and Path(path).is_file() and "eigenshape-web-" in path
        stated = kind | {"Content-Length": str(300 << 20)}
        status, text = request(address, "POST", "/gradio_api/upload", stated, body)
        assert status == 413 and "the limit is 67,108,864" in text
        chunks = (b"x" * (1 << 20) for _ in range(80))
        with contextlib.suppress(OSError):  # it hangs up
            assert request(address, "POST", "/gradio_api/upload", kind, chunks)[0] >= 400
        folder = next(p for p in Path(path).parents if p.name.startswith("eigenshape-web-"))
        assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 64 << 20
    assert not folder.exists()


def test_the_upload_before_is_removed(tmp_path):
    uploads = guard.Uploads(tmp_path)
    first, second, foreign = tmp_path / "first", tmp_path / "second", tmp_path.parent / "foreign"
    for path in (first, second, foreign):
        path.touch()
    uploads.replaced("a", str(first))
    uploads.replaced("b", str(first))
    uploads.replaced("a", str(second))
    assert first.exists(), "another tab shows it"
    uploads.replaced("b", None)
    assert not first.exists() and second.exists()
    uploads.replaced("a", str(foreign))
    uploads.closed("a")
    assert not second.exists() and foreign.exists()


def test_the_answer_before_is_removed(tmp_path):
    uploads = guard.Uploads(tmp_path)
    first, other = uploads.answers("a"), uploads.answers("b")
    (first / "x.png").touch()
    second = uploads.answers("a")
    assert not first.exists() and second.is_dir() and other.is_dir()
    uploads.closed("a")
    assert list(tmp_path.iterdir()) == [other]


CLICK = "[...document.querySelectorAll('button')].find((b) => b.textContent.trim() == {})?.click()"
TYPE = """(() => {{
  const box = document.querySelector('textarea');
  Object.getOwnPropertyDescriptor(Object.getPrototypeOf(box), 'value').set.call(box, {});
  box.dispatchEvent(new Event('input', {{ bubbles: true }}));
}})()"""
STATUS = "document.querySelector('.status')?.textContent ?? ''"


def ask(browser, words, expected):
    """Type the words, click, and wait for a status that contains `expected`."""
    browser.value(TYPE.format(json.dumps(words)))
    # The page takes a moment to notice what was typed.
    until(
        lambda: [browser.value(CLICK.format('"Name them"')), expected in browser.value(STATUS)][1]
    )


def in_a_browser(test):
    for mark in (
        pytest.mark.web,
        pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH"),
        pytest.mark.skipif(not importlib.util.find_spec("gradio"), reason="gradio is absent"),
    ):
        test = mark(test)
    return test


@in_a_browser
@pytest.mark.parametrize("width", [1400, 400])
def test_the_page_in_a_browser(address, browser, photo, tmp_path, width):
    browser.requests.clear()
    browser.open(address, width)
    browser.wait("document.querySelector('textarea') && document.querySelector('[type=file]') && 1")
    ask(browser, "cat", "No photo yet")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    browser.choose("[type=file]", tmp_path / "bad.png")
    ask(browser, "cat", "bad.png cannot be read")
    browser.value(
        "document.querySelector('[aria-label=Clear], [aria-label=\"Remove Image\"]').click()"
    )
    browser.wait("document.querySelector('[type=file]') && 1")
    browser.choose("[type=file]", photo)
    ask(browser, "", "No words")
    ask(browser, "cat, dragon", "dragon: no text embedding in table.npy")
    ask(browser, "cat, Sofa", "Done.")
    browser.wait("document.querySelectorAll('#vectors img').length == 5")
    assert browser.wait("document.querySelectorAll('.legend td').length") in (4, 8)
    files = browser.wait("[...document.querySelectorAll('#downloads a')].map((a) => a.download)")
    assert {"photo.png", "photo_labels.png", "photo.json", "photo_coco.json"} <= set(files)
    # An example, by the keyboard alone; this network knows the words of one of them.
    names = "[...document.querySelectorAll('#examples button')].map((b) => b.textContent.trim())"
    assert browser.value(names)[:3] == ["astronaut", "camera", "cat"]
    browser.value("document.querySelectorAll('#examples button')[2].focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call(
            "Input.dispatchKeyEvent",
            type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13,
        )  # fmt: skip
    shown = "[...document.querySelectorAll('img')].some((i) => i.src.includes('chelsea'))"
    browser.wait(f"{shown} && document.querySelector('textarea').value == 'cat'")
    downloads = "[...document.querySelectorAll('#downloads a')].map((a) => a.download)"
    click = CLICK.format('"Name them"')
    until(lambda: [browser.value(click), "chelsea_labels.png" in browser.value(downloads)][1])
    assert browser.value("document.documentElement.scrollWidth") <= width
    hosts = {urlsplit(url).hostname for url in browser.requests if url.startswith(("http", "ws"))}
    assert hosts == {"127.0.0.1"}


@in_a_browser
def test_zegformer_takes_any_words_in_a_browser(zegformer_address, browser, photo):
    browser.open(zegformer_address, 1400)
    browser.wait("document.querySelector('textarea') && document.querySelector('[type=file]') && 1")
    browser.choose("[type=file]", photo)
    ask(browser, "dragon, a word that no list has", "Every pixel has its most likely word")
    browser.wait("document.querySelectorAll('#vectors img').length == 5")
    named = "[...document.querySelectorAll('.legend tr')].map((row) => row.cells[1].textContent)"
    head, *names = browser.wait(named)
    assert head == "class" and names and set(names) <= {"dragon", "a word that no list has"}
    loaded = "[...document.querySelectorAll('img')].filter((i) => i.naturalWidth == 128)"
    browser.wait(f"{loaded}.length >= 2")


def test_a_port_that_is_taken_or_none_is_one_line():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        result = CliRunner().invoke(web.main, ["--port", port])
    assert result.exit_code == 1
    assert f"Error: --port {port}: Address already in use; name another" in result.output
    assert CliRunner().invoke(web.main, ["--port", "99999"]).exit_code == 2
