"""Start page of the demo: a link, an image and a sentence for each page that was made."""

from __future__ import annotations

import html
import logging
import re
from pathlib import Path

from data.errors import RunError
from data.sealed import read_json
from eval import report

log = logging.getLogger(__name__)

# Page, title, sentence, and the alternative text of the image in that page that represents it.
_PAGES = (
    ("samples/report.html", "Eigenvectors of photos",
     "Eigenvectors, spectrum, masks and residuals of scikit-image's photos.",
     "eigenvector 1 of chelsea"),
    ("samples/discovery.html", "Objects, segments and names",
     "Boxes and masks of objects, segments named by a classifier, and joint graphs of photos.",
     "objects of coffee"),
    ("samples/words.html", "Photos segmented by words",
     "The bundled network, given words for what each photo shows.",
     "network and eigenvectors of chelsea"),
    ("world/report.html", "Eigenvectors of a generated world",
     "The same pipeline on generated scenes of shapes.",
     "eigenvector 1 of world_000000"),
    ("world/sazs/report.html", "SAZS", "Trained on the generated world.", "fused of "),
    ("world/zegformer/report.html", "ZegFormer", "Trained on the generated world.",
     "prediction of "),
)  # fmt: skip


def run(results: Path, output: Path) -> None:
    """Write the page, with a link to each page of the demo below `results` that exists."""
    links = [
        report.Link(page, title, _with_scores(results / page, text), _picture(results / page, alt))
        for page, title, text, alt in _PAGES
        if (results / page).is_file()
    ]
    report.write(output, [report.links("Pages", links)], title="eigenshape: the demo")
    log.info("all pages -> %s", output)


def _picture(page: Path, description: str) -> str:
    """Data URI of the first image in a page whose alternative text begins so; "" if none does."""
    start = re.escape(html.escape(description))
    found = re.search(rf'<img src="(data:[^"]+)" alt="{start}', page.read_text("utf-8"))
    return found[1] if found else ""


def _with_scores(page: Path, text: str) -> str:
    """The sentence, and what a segmenter scored on unseen classes."""
    path = page.with_name("summary.json")
    if not path.is_file():
        return text
    scores = read_json(path, RunError, unsealed=("version", 1))
    if "unseen" in scores:
        unseen = scores["unseen"]
        return (
            f"{text} mIoU of unseen classes: {unseen['network']:.1f}, with eigenvectors "
            f"{unseen['fused']:.1f}; untrained {scores['untrained']:.1f}."
        )
    trained, untrained = scores["zegformer"], scores["untrained"]
    return (
        f"{text} IoU of seen classes: {trained['seen_IoU']:.1f}, of unseen classes "
        f"{trained['unseen_IoU']:.1f}; untrained {untrained['unseen_IoU']:.1f}."
    )
