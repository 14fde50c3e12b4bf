#!/usr/bin/env python
"""Local web page that segments a photo by words and shows its eigenvectors.

\b
python demo/web.py --checkpoint model_final.safetensors
python demo/web.py --checkpoint model_best.safetensors --embeddings table.npy --classes names.txt

The page is served on 127.0.0.1 only, accepts requests from itself only, and loads nothing from
elsewhere. Uploads of up to 64 MB are accepted; they are removed when the server stops.
"""

from __future__ import annotations

import html
import importlib.util
import logging
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.errors import EigenshapeError, SettingError, message, reason
from demo.examples import Example, examples, write_downloads
from demo.guard import MOST_BYTES, Guard, Uploads, own_folder
from demo.options import HELP, DemoCommand, Options, model_options, open_words
from eval.class_names import split
from eval.model import Model

if TYPE_CHECKING:
    import gradio
    import numpy as np

    from data.text.vocabulary import Vocabulary
    from eigen.extractors import Extractor
    from eval.predict import Named

HOST = "127.0.0.1"
MOST_WORDS = 100
LONGEST = 1600  # pixels; a larger photo is reduced first
EIGENVECTORS = 5
KEPT = (60, 3600)  # every minute, what has been on the disk for an hour is removed
_BUTTONS: Any = ["download", "fullscreen"]  # none that would upload a photo
_FONT = ("system-ui", "sans-serif")
_STATUS = '<p class="status" role="status">{}</p>'
# Whatever a library puts into the page, a browser contacts no server but this one.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'; "
    "frame-ancestors 'self'"
)

log = logging.getLogger("demo")


@dataclass(frozen=True)
class Answer:
    """What the page shows for one photo; after an error, `status` alone.

    overlay : (H, W, 3) uint8 or None
    legend : HTML, the classes present
    vectors : (H, W, 3) uint8 image of each eigenvector, with its caption
    files : paths of what can be downloaded
    status : one line of HTML
    """

    overlay: np.ndarray | None = None
    legend: str = ""
    vectors: tuple[tuple[np.ndarray, str], ...] = ()
    files: tuple[str, ...] = ()
    status: str = ""


@dataclass(frozen=True)
class Page:
    """The network and the extractor behind the page."""

    model: Model
    extractor: Extractor

    def answer(self, path: str | None, words: str, folder: Path) -> Answer:
        """Segment the photo at `path` in these words; files to download are written to `folder`."""
        try:
            if not path:
                raise SettingError("No photo yet: drop one, choose a file, or try an example.")
            vocabulary = self._vocabulary(words)
            image, note = _read(path)
            named = self.model.predictor(vocabulary)(image)
            vectors, failure = self._eigenvectors(image)
            files = write_downloads(folder, Path(path).stem, image, named, vocabulary)
        except Exception as error:
            if not isinstance(error, EigenshapeError | OSError):
                log.exception("%s", path)
                raise
            return Answer(status=_line(message(error)))
        from eval.predict import overlay

        return Answer(
            overlay(image, named, vocabulary),
            _legend(named, vocabulary),
            vectors,
            tuple(files),
            _line(" ".join(filter(None, (_outcome(named), note, failure)))),
        )

    def _vocabulary(self, words: str) -> Vocabulary:
        names = split(words)
        if not names:
            raise SettingError("No words: type what to look for, for example: cat, sofa")
        if len(names) > MOST_WORDS:
            raise SettingError(f"{len(names)} words: at most {MOST_WORDS} at a time.")
        return self.model.vocabulary(names)

    def knows(self, words: Sequence[str]) -> bool:
        """Whether the network can look for these words."""
        try:
            self.model.predictor(self.model.vocabulary(words))
        except EigenshapeError:
            return False
        return True

    def _eigenvectors(self, image: np.ndarray) -> tuple[tuple[tuple[np.ndarray, str], ...], str]:
        """Images with captions, or why there are none."""
        from eigen.picture import eigenvectors
        from eval.figures import vector_rgb

        try:
            pairs = eigenvectors(image, self.extractor, EIGENVECTORS, drop_trivial=True)
        except Exception as error:
            if not isinstance(error, EigenshapeError | OSError):
                raise
            return (), f"No eigenvectors: {message(error)}"
        size = (image.shape[0], image.shape[1])
        return tuple(
            (vector_rgb(vector, size=size), f"{n}: {value:.4f}")
            for n, (vector, value) in enumerate(
                zip(pairs.vectors, pairs.eigenvalues, strict=True), start=1
            )
        ), ""


def _outcome(named: Named) -> str:
    """What a newcomer should know about the result."""
    from eval.predict import IGNORE

    if not named.scores:
        return "No mask was accepted for these words."
    if (named.labels != IGNORE).all():
        return "Done. Every pixel has its most likely word; add words for anything else."
    return "Done."


def _line(text: str) -> str:
    return _STATUS.format(html.escape(" ".join(text.split())))


def _read(path: str) -> tuple[np.ndarray, str]:
    """The photo, and a note if it was reduced."""
    import cv2

    from data.pictures import ImageError, read_image

    try:
        image = read_image(Path(path))
    except ImageError as error:
        # The path is that of the server's copy, which means nothing to the user.
        raise SettingError(f"{Path(path).name} cannot be read: {error.reason}") from error
    scale = LONGEST / max(image.shape[:2])
    if scale >= 1:
        return image, ""
    width, height = (max(1, round(n * scale)) for n in image.shape[1::-1])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return small, f"The photo was first reduced to {width} x {height} pixels."


def _legend(named: Named, vocabulary: Vocabulary) -> str:
    """Colour, name, share of the photo and score of each class, the largest first."""
    from eval.predict import class_colour

    shares = {c: float((named.labels == c).mean()) for c in named.scores}
    colours = {c: class_colour(c, len(vocabulary)) for c in shares}
    rows = [
        "<tr>"
        f'<td><span class="chip" style="background:rgb{colours[c]}"></span></td>'
        f"<td>{html.escape(vocabulary.names[c])}</td><td>{100 * shares[c]:.1f} %</td>"
        f"<td>{named.scores[c]:.3f}</td></tr>"
        for c in sorted(shares, key=lambda c: -shares[c])
    ]
    if not rows:
        return ""
    head = "<tr><th></th><th>class</th><th>share of the photo</th><th>mean score</th></tr>"
    return f'<table class="legend">{head}{"".join(rows)}</table>'


_CSS = """
.legend { border-collapse: collapse; }
.legend td, .legend th {
  padding: 2px 10px; text-align: left; border: 1px solid var(--border-color-primary) !important;
}
.status { font-weight: 600; }
#examples { flex-wrap: wrap; gap: 8px; }
#examples button { min-width: 0; flex: 0 1 auto; padding: 4px 10px 4px 4px; }
#examples button img { width: 56px; height: 44px; object-fit: cover; border-radius: 4px; }
.chip { display: inline-block; width: 1em; height: 1em; border-radius: 3px; vertical-align: -2px; }
#vectors, #vectors .grid-wrap { height: auto; min-height: 0; max-height: none; }
@media (max-width: 640px) {
  #vectors .grid-container { grid-template-columns: repeat(2, 1fr) !important; }
}
"""


def build(page: Page, title: str, uploads: Uploads) -> gradio.Blocks:
    """The controls of the page, tied to `page`."""
    import gradio as gr

    placeholder = ", ".join(page.model.words.names[:3])

    def answer(path: str | None, words: str, request: gr.Request) -> tuple[Any, ...]:
        tab = str(request.session_hash)
        uploads.replaced(tab, path)
        shown = page.answer(path, words, uploads.answers(tab))
        return (
            shown.status, shown.overlay, shown.legend, list(shown.files) or None,
            list(shown.vectors),
        )  # fmt: skip

    def closed(request: gr.Request) -> None:
        uploads.closed(str(request.session_hash))

    # Their annotations are text, and gradio looks for its type.
    answer.__annotations__["request"] = closed.__annotations__["request"] = gr.Request
    with gr.Blocks(title="eigenshape", analytics_enabled=False, delete_cache=KEPT) as blocks:
        gr.Markdown(f"# eigenshape\nSegment a photo by words. Network: {title}.")
        with gr.Row():
            with gr.Column():
                photo = gr.Image(
                    label="Photo",
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard"],
                    buttons=["fullscreen"],
                )
                # Gradio's reader supports fewer formats, and its errors are less specific.
                photo.preprocess = _path  # type: ignore[method-assign, assignment]
                words = gr.Textbox(
                    label="Words, separated by commas", placeholder=f"for example: {placeholder}"
                )
                button = gr.Button("Name them", variant="primary")
                status = gr.HTML(label="Status", elem_id="status")
                _example_buttons(page, uploads, photo, words)
            with gr.Column():
                overlay = gr.Image(
                    label="Result", format="png", interactive=False, buttons=_BUTTONS
                )
                legend = gr.HTML(label="Classes")
                files = gr.File(
                    label="Downloads: overlay, label map, scores, masks in COCO's format",
                    file_count="multiple",
                    interactive=False,
                    elem_id="downloads",
                )
        gr.Markdown("Eigenvectors of the photo (blue below 0, red above), with their eigenvalues")
        vectors = gr.Gallery(
            label="Eigenvectors", elem_id="vectors", show_label=False, format="png",
            columns=EIGENVECTORS, object_fit="contain", height="auto", interactive=False,
            buttons=_BUTTONS,
        )  # fmt: skip
        results = [status, overlay, legend, files, vectors]
        blocks.unload(closed)
        gr.on([button.click, words.submit], answer, [photo, words], results, api_name="segment")
    return blocks


def _example_buttons(page: Page, uploads: Uploads, photo: Any, words: Any) -> None:
    """A button per example that fills in the photo and its words, if the network knows them."""
    import gradio as gr

    offered = examples()
    if not offered:
        return
    gr.Markdown("Or try one of these:")
    with gr.Row(elem_id="examples"):
        for example in offered:
            known = page.knows(example.words)

            def choose(example: Example = example, known: bool = known) -> tuple[str, Any]:
                copy = example.copied(uploads.folder)
                return str(copy), example.text if known else gr.skip()

            label = example.text if known else example.path.stem
            icon: Any = example.thumbnail()
            button = gr.Button(label, icon=icon, size="sm")
            button.click(choose, None, [photo, words], api_name=False)


def _path(upload: Any) -> str | None:
    return upload.path if upload else None


def serve(blocks: gradio.Blocks, port: int | None) -> str:
    """Start the server in a new thread and return the address of the page.

    Parameters
    ----------
    port : int or None
        None takes the first free one from 7860.

    Raises
    ------
    OSError
        The port is taken.
    """
    import gradio as gr
    from starlette.middleware import Middleware

    _, address, _ = blocks.launch(
        server_name=HOST, server_port=port, share=False, quiet=True, prevent_thread_lock=True,
        theme=gr.themes.Default(font=_FONT, font_mono=("monospace",)), css=_CSS, ssr_mode=False,
        footer_links=[], run_history=False, max_file_size=MOST_BYTES,
        app_kwargs={"middleware": [Middleware(Guard), Middleware(_Policy)]},
    )  # fmt: skip
    return address


def _check_port(port: int) -> None:
    """Find out now, not when the network has been read, that a port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise SettingError(
                f"--port {port}: {reason(error)}; name another, or leave it out for a free one"
            ) from error


class _Policy:
    """Add the content security policy to every response."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"content-security-policy", _POLICY.encode()))
            await send(message)

        await self.app(scope, receive, send_with_policy)


@click.command(cls=DemoCommand, help=__doc__, context_settings=HELP)
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port. Default: the first free one from 7860."
)
@click.option(
    "--extractor", default="lowlevel8", show_default=True, help="Extractor for the eigenvectors."
)
@model_options
def main(port: int | None, extractor: str, options: Options, seen: str | None) -> None:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    if importlib.util.find_spec("gradio") is None:
        raise SettingError(
            "gradio is not installed, which the page needs: python -m pip install -e '.[web]'"
        )
    if port is not None:
        _check_port(port)
    model, _ = open_words(options, seen)
    from eigen.extractors import extractor as open_extractor

    page = Page(model, open_extractor(extractor))
    with own_folder() as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(folder)  # read when its components are made
        blocks = build(page, Path(model.source).name, Uploads(folder))
        log.info("open %s in a browser; stop with Ctrl-C", serve(blocks, port))
        blocks.block_thread()


if __name__ == "__main__":
    main()
