"""The ZegFormer page: best and worst images, scores of all."""

from pathlib import Path

import numpy as np
import pytest

from data.synthetic import world
from data.zegformer.sets import Pair
from eval.zegformer import page

VOCABULARY = world.vocabulary(0)


@pytest.fixture
def examples():
    """Ten images, of which image i has i tenths of its pixels predicted wrongly."""
    made = page.Examples(VOCABULARY, photos=2)
    for number in (3, 0, 9, 5, 1, 7, 2, 8, 4, 6):
        label = np.full((20, 20), 1, np.uint8)
        label[:10] = VOCABULARY.ignore
        prediction = np.ones((20, 20), np.uint8)
        prediction.reshape(-1)[200 : 200 + 20 * number] = 2
        image = np.zeros((20, 20, 3), np.uint8)
        made(Pair(f"image{number}", Path("i"), Path("l")), image, label, prediction)
    return made


def test_best_and_worst_are_chosen_among_all_images(examples, tmp_path):
    confusion = np.zeros((len(VOCABULARY) + 1,) * 2, np.int64)
    tested = {"weights": "w.safetensors", "training steps": None}
    figures = {"net": {"mIoU": 1.0}}
    page.write(tmp_path / "p.html", "t", figures, confusion, VOCABULARY, examples, None, tested)
    html = (tmp_path / "p.html").read_text()
    assert "w.safetensors" in html and "not recorded" in html
    best, worst = html.split("Best images</h2>")[1].split("Worst images</h2>")
    listed = worst.split("Images</h2>")
    order = [best, listed[0]]
    assert [[f"image{n}</h4>" in part for n in (0, 1, 8, 9)] for part in order] == [
        [True, True, False, False],
        [False, False, True, True],
    ]
    assert order[1].index("image9") < order[1].index("image8")
    assert all(f"image{n}" in listed[1] for n in range(10))


def test_void_pixels_count_for_no_image_score(examples):
    scores = {found.id: found for found in examples.scores}
    assert scores["image0"].miou == scores["image0"].accuracy == 100
    assert scores["image5"].accuracy == pytest.approx(50)
    assert scores["image5"].miou == pytest.approx(25)


def test_an_image_of_void_alone_has_no_score():
    label = np.full((4, 4), VOCABULARY.ignore, np.uint8)
    assert page.image_score("a", label, np.zeros((4, 4), np.uint8), VOCABULARY) is None


def test_examples_of_several_processes_are_those_of_one(examples):
    parts = [page.Examples(VOCABULARY, photos=2) for _ in range(3)]
    for number, wrong in enumerate((3, 0, 9, 5, 1, 7, 2, 8, 4, 6)):
        label, prediction = np.ones((20, 20), np.uint8), np.ones((20, 20), np.uint8)
        label[:10] = VOCABULARY.ignore
        prediction.reshape(-1)[200 : 200 + 20 * wrong] = 2
        pair = Pair(f"image{wrong}", Path("i"), Path("l"))
        parts[number // 4](pair, np.zeros((20, 20, 3), np.uint8), label, prediction)
    whole = parts[0].joined(parts)
    assert whole.scores == examples.scores
    for kept in ("_best", "_worst"):
        ids = [
            {(rank, place, row.label) for rank, place, row in getattr(one, kept)}
            for one in (whole, examples)
        ]
        assert ids[0] == ids[1]
