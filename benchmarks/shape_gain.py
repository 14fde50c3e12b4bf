"""What the gain of a fusion depends on: size, compactness and number of parts of the object.

    python -m benchmarks.refinement measure ...
    python -m benchmarks.shape_gain --choose 40 --picture shape_gain.png

Each point is a class of an image, its gain in IoU the mean over networks that have (or have not)
seen the class. Rank correlations have 95 % intervals of 500 bootstrap draws of the images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from scipy.stats import spearmanr

from benchmarks import _harness
from benchmarks.item_counts import DRAWS, ItemCounts, joined
from benchmarks.refinement import COUNTS, reported_on
from pipeline.commands import help_text

VARIABLES = ("share of the image", "compactness", "parts", "IoU of the network")
BINS = 4


@dataclass(frozen=True, eq=False)
class Points:
    """Gain in IoU (points) of n classes of images, and what may explain it, (n, variables)."""

    gain: np.ndarray
    variables: np.ndarray
    image: np.ndarray

    def correlation(self, variable: int) -> tuple[float, float, float]:
        """Spearman's rho with the gain, and the bounds of its interval."""
        rng = np.random.default_rng(0)
        images = np.unique(self.image)
        of = [np.flatnonzero(self.image == image) for image in images]
        values = []
        for draw in range(DRAWS + 1):
            order = rng.integers(len(of), size=len(of)) if draw else range(len(of))
            items = np.concatenate([of[i] for i in order])
            x, y = self.variables[items, variable], self.gain[items]
            values.append(spearmanr(x, y).statistic if np.ptp(x) and np.ptp(y) else 0.0)
        low, high = np.quantile(values[1:], (0.025, 0.975))
        return float(values[0]), float(low), float(high)

    def bins(self, variable: int) -> Iterator[tuple[float, float, float]]:
        """Middle, mean gain and its standard error of up to `BINS` groups of equal size."""
        x = self.variables[:, variable]
        edges = np.unique(np.quantile(x, np.linspace(0, 1, BINS + 1)))
        group = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, max(len(edges) - 2, 0))
        for number in np.unique(group):
            gains = self.gain[group == number]
            error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.nan
            yield float(np.median(x[group == number])), float(gains.mean()), float(error)


def points_of(table: ItemCounts, answer: str, *, seen: bool) -> Points:
    """One point per image and class, averaged over the networks."""
    gains = 100 * (table.iou(answer) - table.iou("network"))
    plain = 100 * table.iou("network")
    chosen = np.flatnonzero(table.seen == seen)
    keys = np.stack([table.image[chosen], table.class_id[chosen]], axis=1)
    pairs, group = np.unique(keys, axis=0, return_inverse=True)
    count = np.bincount(group.ravel())

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(group.ravel(), values[chosen]) / count

    columns = [*table.shapes.T, plain]
    return Points(mean(gains), np.stack([mean(c) for c in columns], axis=1), pairs[:, 0])


def draw(points: dict[str, Points], path: Path) -> None:
    """A panel per variable: points, and means with their standard errors."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    size = (3.2 * len(VARIABLES), 3.2)
    figure, axes = plt.subplots(1, len(VARIABLES), figsize=size, sharey=True, layout="constrained")
    for variable, (axis, name) in enumerate(zip(axes, VARIABLES, strict=True)):
        for colour, (kind, those) in zip(("C0", "C1"), points.items(), strict=False):
            x = those.variables[:, variable]
            axis.plot(x, those.gain, ".", color=colour, alpha=0.25, markersize=4)
            middle, mean, error = zip(*those.bins(variable), strict=True)
            axis.errorbar(middle, mean, error, fmt="o-", color=colour, label=kind, capsize=3)
        axis.axhline(0, color="0.6", linewidth=0.8)
        axis.set(xlabel=name, ylim=(-15, 25))
    axes[0].set(ylabel="gain in IoU, points", xscale="log")
    axes[2].set(xlim=(0.5, 6.5))
    axes[-1].legend()
    figure.savefig(path, dpi=90)
    plt.close(figure)


@click.command(help=help_text(__doc__))
@COUNTS
@click.option("--choose", default=120, show_default=True, help="Images left out, as in refinement.")
@click.option(
    "--answer", "answers", multiple=True, required=True, help="Fusions; the first one is plotted."
)
@click.option("--picture", type=click.Path(path_type=Path), help="Write a plot to this PNG file.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/benchmarks"))
def main(
    counts: Path, choose: int, answers: tuple[str, ...], picture: Path | None, out: Path
) -> None:
    table = joined([ItemCounts.read(path) for path in reported_on(counts, choose)])
    unknown = [name for name in answers if name not in table.counts]
    if unknown:
        raise click.UsageError(f"--answer: expected one of {sorted(table.counts)}, found {unknown}")
    kinds = {"seen": True, "unseen": False}
    rows = []
    for answer in answers:
        points = {kind: points_of(table, answer, seen=seen) for kind, seen in kinds.items()}
        for kind, those in points.items():
            row = {"answer": answer, "classes": kind, "n": len(those.gain)}
            row["mean gain"] = float(those.gain.mean())
            row["share that gains"] = float((those.gain > 0).mean())
            for variable, name in enumerate(VARIABLES):
                rho, low, high = those.correlation(variable)
                row[name] = f"{rho:+.2f} [{low:+.2f}, {high:+.2f}]"
            rows.append(row)
        if picture and answer == answers[0]:
            draw(points, picture)
    _harness.report("shape_gain", rows, out, choose=choose)


if __name__ == "__main__":
    main()
