"""Edge maps as the published PASCAL and COCO data sets make them. Errors count differing pixels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.sazs.edges import reference_edges, shrink_edges
from tests.parity.case import Case, Entries, available

FILES = ("edge_gt.npz",)
PASCAL, COCO = 20, 80
SHRINKING = 8


def cases(folder: Path) -> Iterator[Case]:
    path = folder / "edge_gt.npz"
    if not path.exists():
        return
    with np.load(path, allow_pickle=False) as file:
        yield from available(_maps(Entries(path.stem, dict(file))))


def _maps(golden: Entries) -> Iterator[Case]:
    radius = json.loads(str(golden["info"]))["radius"]
    mask = golden["mask"]
    edges = reference_edges(mask, PASCAL, radius=radius)
    found = {
        "edge": edges,
        "edge_80": reference_edges(mask, COCO, radius=radius),
        "edge_small": shrink_edges(edges, SHRINKING, reference=True),
        "mask_small": mask[::SHRINKING, ::SHRINKING],
    }
    for name, value in (("edge_all_background", 0), ("edge_all_void", 255)):
        if name in golden:
            uniform = np.full(golden[name].shape, value, np.uint8)
            found[name] = reference_edges(uniform, PASCAL, radius=radius)
        else:
            yield Case.missing(f"edges/{name}")
    for name, ours in found.items():
        if name not in golden:
            yield Case.missing(f"edges/{name}")
            continue
        theirs = golden[name]
        differing = (ours != theirs).sum() if ours.shape == theirs.shape else np.inf
        yield Case(f"edges/{name}", float(differing), 0)
