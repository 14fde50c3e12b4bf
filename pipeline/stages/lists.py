"""`lists` and `coco-masks`: PASCAL-5i and COCO-20i lists from masks, COCO masks from JSON."""

from __future__ import annotations

import logging
from pathlib import Path

from data.sazs import published as published_splits
from data.sazs import splits
from data.trees import coco_masks
from data.trees.coco import CocoTree
from data.trees.findings import Finding
from data.trees.tree import Tree

log = logging.getLogger(__name__)


def write_lists(tree: Tree, output: Path, *, workers: int | None) -> list[Finding]:
    """Generate the lists of a tree, write them as JSON, and compare them with those published."""
    lists = splits.generate(tree, workers=workers)
    lists.save(output)
    for id, reason in lists.problems:
        log.warning("left out %s: %s", id, reason)
    return published_splits.compare(lists)


def write_coco_masks(tree: CocoTree, *, workers: int | None) -> int:
    """Draw the label maps of every split that has instances; returns the number of new ones."""
    painted = 0
    for split in tree.splits:
        source = tree.instances_path(split)
        folder = tree.root / "annotations" / split
        new = coco_masks.write_masks(coco_masks.index_instances(source), folder, workers=workers)
        log.info("%s: %d new masks -> %s", split, new, folder)
        painted += new
    return painted
