"""Learning curves of a training run as one figure: losses, scores and learning rate over steps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RATE = "lr"
WINDOWS = 100
"""The smoothed curve is an exponential mean over this fraction of the steps."""

_AUXILIARY = re.compile(r"_\d+$|_labelled$")
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1c2126")
_MOST = len(_COLOURS)

Series = dict[str, tuple[np.ndarray, np.ndarray]]


def draw(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Draw the rows of a history as a PNG; rows with a learning rate hold losses, others scores.

    Losses are smoothed, with the raw values faint behind them. Those of a network's inner layers
    (names that end in a number) are left out: the total contains them. Losses of different
    magnitudes get a logarithmic axis. Scores of a single evaluation are bars.
    """
    from matplotlib.figure import Figure

    steps = _series([row for row in rows if RATE in row])
    rate = {name: steps.pop(name) for name in (RATE,) if name in steps}
    scores = _series([row for row in rows if RATE not in row])
    panels = {"losses": steps, "scores": scores, "learning rate": rate}
    panels = {title: series for title, series in panels.items() if series}
    if not panels:
        return
    figure = Figure(figsize=(9, 3.2 * len(panels)), layout="constrained")
    all_axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (title, series) in zip(all_axes, panels.items(), strict=True):
        _panel(axes, title, series)
    all_axes[-1].set_xlabel("step")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _series(rows: Sequence[Mapping[str, Any]]) -> Series:
    """Steps and values of each figure that has any finite value."""
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name != "step"]
    series = {}
    for name in names:
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        if points:
            steps, values = zip(*points, strict=True)
            series[name] = np.array(steps), np.array(values, np.float64)
    return series


def _panel(axes: Axes, title: str, series: Series) -> None:
    shown = {name: own for name, own in series.items() if not _AUXILIARY.search(name)} or series
    smooths = title == "losses"
    if title == "scores" and all(len(steps) == 1 for steps, _ in series.values()):
        _bars(axes, shown)
        return
    for (name, (steps, values)), colour in zip(list(shown.items())[:_MOST], _COLOURS, strict=False):
        marker = "o" if len(steps) < 30 and not smooths else None
        if smooths:
            axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
            values = smoothed(values)
        axes.plot(
            steps, values, color=colour, linewidth=1.8, marker=marker, markersize=4, label=name
        )
    if smooths and _ranges_widely(list(shown.values())[:_MOST]):
        axes.set_yscale("log")
    left_out = len(series) - min(len(shown), _MOST)
    note = f" ({left_out} more in history.jsonl)" if left_out else ""
    axes.set_title(title + (", smoothed over raw" if smooths else "") + note, loc="left")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if title != "learning rate":
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _bars(axes: Axes, scores: Series) -> None:
    """Scores of one evaluation, each with its value."""
    steps = {int(steps[0]) for steps, _ in scores.values()}
    values = [float(values[0]) for _, values in scores.values()]
    drawn = axes.barh(list(scores), values, color=_COLOURS[0], height=0.6)
    axes.bar_label(drawn, fmt="%.1f", padding=4)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"scores after step {', '.join(map(str, sorted(steps)))}", loc="left")


def _ranges_widely(series: Sequence[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether positive losses differ so much that the smaller ones would lie on the axis."""
    ends = np.array([smoothed(values)[-1] for _, values in series])
    return bool(all((values > 0).all() for _, values in series) and ends.max() > 20 * ends.min())


def smoothed(values: np.ndarray) -> np.ndarray:
    """Exponential mean of a series, without the bias of its start towards 0."""
    keep = 1 - 1 / max(1.0, len(values) / WINDOWS)
    means, mean, weight = np.empty_like(values), 0.0, 0.0
    for index, value in enumerate(values):
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        means[index] = mean / weight
    return means
