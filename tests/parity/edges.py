"""Edge maps as the published PASCAL and COCO data sets make them. Errors count differing pixels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.sazs.edges import reference_edges, shrink_edges
from tests.parity.case import Case

PASCAL, COCO = 20, 80


def cases(folder: Path) -> Iterator[Case]:
    path = folder / "edge_gt.npz"
    if not path.exists():
        return
    with np.load(path, allow_pickle=False) as file:
        golden = dict(file)
    radius = json.loads(str(golden["info"]))["radius"]
    mask = golden["mask"]
    blank = np.zeros(golden["edge_all_background"].shape, np.uint8)
    void = np.full(golden["edge_all_void"].shape, 255, np.uint8)
    edges = reference_edges(mask, PASCAL, radius=radius)
    found = {
        "edge": edges,
        "edge_80": reference_edges(mask, COCO, radius=radius),
        "edge_all_background": reference_edges(blank, PASCAL, radius=radius),
        "edge_all_void": reference_edges(void, PASCAL, radius=radius),
        "edge_small": shrink_edges(edges, 8, reference=True),
    }
    for name, ours in found.items():
        theirs = golden[name]
        differing = (ours != theirs).sum() if ours.shape == theirs.shape else np.inf
        yield Case(f"edges/{name}", float(differing), 0)
