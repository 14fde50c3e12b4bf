"""Gains summed from counts, and their intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from benchmarks.item_counts import ItemCounts, chosen, drawn, joined, summary
from benchmarks.refinement import compared_at_once, shape_of


@dataclass
class Net:
    name: str
    held_out: frozenset[int]


def image_of(gain: int, *, seed: int) -> ItemCounts:
    """Two networks, two classes; "fused" has `gain` more pixels right."""
    nets = [Net("a", frozenset({1})), Net("b", frozenset({1}))]
    numbers = [(n, c) for n in (0, 1) for c in (0, 1)]
    table = ItemCounts.empty(numbers, seen=[c == 0 for _, c in numbers], names=nets)
    rng = np.random.default_rng(seed)
    inter = rng.integers(20, 60, 4)
    outlines = np.tile([5, 10, 5, 10], (4, 1))
    table.counts["network"] = np.c_[inter, np.full(4, 100), outlines]
    table.counts["fused"] = np.c_[inter + gain, np.full(4, 100), outlines]
    table.shapes = np.ones((4, 3))
    return table


def test_counts_survive_the_file(tmp_path):
    table = image_of(3, seed=0)
    table.write(tmp_path / "0000_x.npz")
    read = ItemCounts.read(tmp_path / "0000_x.npz")
    assert list(read.counts) == ["network", "fused"]
    for name in ("network", "fold", "seen", "class_id", "shapes"):
        assert np.array_equal(getattr(read, name), getattr(table, name))
    assert not list(tmp_path.glob("*.part"))


def test_a_gain_everywhere_has_its_size_and_a_narrow_interval():
    tables = joined([image_of(3, seed=s) for s in range(12)])
    rows = {row["answer"]: row for row in summary(tables, tables)}
    assert "(+3.00 [+3.00, +3.00])" in rows["fused"]["seen: mIoU"]
    assert "+0.00 [+0.00, +0.00]" in rows["network"]["unseen 1: mIoU"]
    assert rows["fused"]["unseen: mIoU"] == rows["fused"]["unseen 1: mIoU"]


def test_the_interval_covers_nothing_where_images_disagree():
    tables = joined([image_of(gain, seed=s) for s, gain in enumerate([9, -9] * 6)])
    text = {row["answer"]: row for row in summary(tables, tables)}["fused"]["seen: mIoU"]
    low, high = text.split("[")[1].rstrip("])").split(", ")
    assert float(low) < 0 < float(high)


def test_the_mean_is_over_classes_then_networks():
    table = joined([image_of(0, seed=s) for s in range(3)])
    miou = table.figures("network", drawn(3, draws=1))[0, 0]
    counts = table.counts["network"]
    by_class = [
        counts[(table.network == n) & (table.class_id == c)].sum(0) for n in "ab" for c in (0, 1)
    ]
    assert miou == pytest.approx(100 * np.mean([row[0] / row[1] for row in by_class]))


def test_shape_of_a_disc_and_of_pieces():
    rows, columns = np.mgrid[:200, :200]
    disc = (rows - 100) ** 2 + (columns - 100) ** 2 < 60**2
    bar, two = np.zeros((200, 200), bool), np.zeros((200, 200), bool)
    bar[95:105, 10:190] = True
    two[10:60, 10:60] = two[100:150, 100:150] = True
    two[0, 199] = True
    (area, round_, parts), (_, thin, _), (_, square, two_parts) = map(shape_of, (disc, bar, two))
    assert area == pytest.approx(disc.mean()) and parts == 1 and two_parts == 2
    assert 0.8 < round_ <= 1.05 and thin < 0.3 and square < 0.5


def test_all_classes_at_once_keep_their_areas():
    rng = np.random.default_rng(0)
    margins = rng.standard_normal((3, 30, 40)).astype(np.float32)
    smooth = rng.random((3, 30, 40)).astype(np.float32)
    from eval.sazs.segmenter import label_map

    before = np.bincount(label_map(margins, margins > 0).ravel(), minlength=4)
    after = np.bincount(compared_at_once(margins, smooth).ravel(), minlength=4)
    assert np.abs(before - after).max() <= 2


def test_a_sure_gain_is_chosen_before_a_large_one():
    tables = joined([image_of(gain, seed=s) for s, gain in enumerate([25, -9] * 6)])
    tables.counts["sure"] = tables.counts["network"] + np.array([2, 0, 0, 0, 0, 0])
    assert chosen(tables) == "sure"
    assert chosen(tables, of="fused") == "fused"
