"""Learning curves: what is drawn, what is left out."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from train import curves


def rows(steps=60):
    losses = {"loss_ce": 1.0, "total": 2.0, **{f"loss_ce_{layer}": 3.0 for layer in range(20)}}
    made = [{"step": step, "lr": 0.1, **losses} for step in range(1, steps + 1)]
    scores = [{"step": step, "mIoU": 40.0, "boundary_F": None} for step in (steps // 2, steps)]
    return [*made, *scores]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw rows; the figure."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))
    )

    def draw(rows):
        curves.draw(rows, tmp_path / "curves.png")
        return figures.pop() if figures else None

    return draw


def test_losses_scores_and_rate_are_three_panels(drawn):
    figure = drawn(rows())
    assert [axes.get_title("left").split(",")[0] for axes in figure.axes] == [
        "losses", "scores", "learning rate",
    ]  # fmt: skip
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["loss_ce", "total"]
    assert "20 more in history.jsonl" in figure.axes[0].get_title("left")


def test_a_figure_that_was_never_finite_has_no_curve(drawn):
    labels = [text.get_text() for text in drawn(rows()).axes[1].get_legend().get_texts()]
    assert labels == ["mIoU"]


def test_scores_of_one_evaluation_are_bars_with_their_values(drawn):
    made = [*rows()[:-2], {"step": 60, "mIoU": 41.26, "mIoU_labelled": 50.0, "hIoU": 20.0}]
    axes = drawn(made).axes[1]
    assert axes.get_title("left") == "scores after step 60"
    assert [text.get_text() for text in axes.texts] == ["41.3", "20.0"]


@pytest.mark.parametrize(("small", "scale"), [(0.01, "log"), (0.9, "linear"), (0.0, "linear")])
def test_losses_of_different_magnitudes_get_a_logarithmic_axis(drawn, small, scale):
    made = [{"step": step, "lr": 0.1, "mask": small, "total": 2.0} for step in range(1, 20)]
    assert drawn(made).axes[0].get_yscale() == scale


def test_nothing_to_draw_writes_nothing(drawn, tmp_path):
    assert drawn([]) is None and not (tmp_path / "curves.png").exists()


def test_smoothing_keeps_a_constant_and_halves_noise():
    np.testing.assert_allclose(curves.smoothed(np.full(500, 3.0)), 3.0)
    noise = np.random.default_rng(0).standard_normal(5000)
    assert curves.smoothed(noise).std() < noise.std() / 2
