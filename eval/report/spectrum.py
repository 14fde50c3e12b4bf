"""Eigenvalue spectra as small inline drawings that take their colours from the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from eval.report.templates import value

BINS = 60


def stems(eigenvalues: Sequence[float]) -> Markup:
    """SVG of the eigenvalues of an image, one bar each; the largest fills the height.

    The eigengap of an image with distinct regions shows as a step between two bars.
    """
    top = max(eigenvalues, default=0.0) or 1.0
    step = 100 / max(1, len(eigenvalues))
    bars = "".join(
        f'<rect x="{k * step + step * 0.15:.1f}" y="{30 - height:.1f}" width="{step * 0.7:.1f}" '
        f'height="{height:.1f}"/>'
        for k, height in enumerate(max(0.6, 30 * max(0.0, x) / top) for x in eigenvalues)
    )
    label = escape("eigenvalues " + ", ".join(value(x) for x in eigenvalues))
    return Markup(
        f'<svg class="stems" viewBox="0 0 100 30" preserveAspectRatio="none" role="img" '
        f'aria-label="{label}">{bars}</svg>'
    )


@dataclass(frozen=True)
class Spread:
    """Distribution of one eigenvalue over the images: quantiles, and a histogram as SVG."""

    low: float
    median: float
    high: float
    histogram: Markup


def spreads(eigenvalues: np.ndarray) -> tuple[list[Spread], float]:
    """Distribution of each of K eigenvalues over n images, and the end of their common axis.

    Parameters
    ----------
    eigenvalues : ndarray, shape (n, K), float; NaN where an image has fewer than K
    """
    top = float(np.nanmax(eigenvalues, initial=0.0)) or 1.0
    return [_spread(column[np.isfinite(column)], top) for column in eigenvalues.T], top


def _spread(values: np.ndarray, top: float) -> Spread:
    low, median, high = np.quantile(values, [0.05, 0.5, 0.95]).tolist()
    # Rounding may leave the smallest eigenvalue just below 0; it belongs in the first bin.
    counts, _ = np.histogram(np.clip(values, 0, top), bins=BINS, range=(0, top))
    heights = 20 * np.sqrt(counts / counts.max())
    bars = "".join(
        f'<rect x="{k}" y="{20 - height:.1f}" width="1" height="{height:.1f}"/>'
        for k, height in enumerate(heights)
        if height > 0
    )
    x = BINS * max(0.0, median) / top
    return Spread(
        low,
        median,
        high,
        Markup(
            f'<svg class="histogram" viewBox="0 0 {BINS} 20" preserveAspectRatio="none" '
            f'aria-hidden="true">{bars}<line x1="{x:.2f}" x2="{x:.2f}" y1="0" y2="20"/></svg>'
        ),
    )
