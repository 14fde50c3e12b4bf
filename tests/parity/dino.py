"""DINO: position embedding, class token, keys of the last block and their cosines.

The network is filled by key and seed, so the names of its keys are compared along with its numbers.
Errors are absolute; the tolerance is that of the golden README's table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from eigen.extractors import extractor
from tests.parity.case import Case, largest_difference
from tests.parity.fill import fill
from tests.parity.golden import OWN, Golden

TOLERANCE = 2e-5
FILES = tuple(f"dino_{size}.npz" for size in ("vits16", "vits8", "vitb16", "vitb8"))


def cases(folder: Path) -> Iterator[Case]:
    for path in sorted(folder.glob("dino_*.npz")):
        golden = Golden(path)
        with torch.inference_mode():
            ours = outputs(golden)
        yield _keys(folder, golden.name, ours.pop("state"))
        for name in (key for key in golden.file if "." not in key and key != "info"):
            array = ours.get(name, np.empty(0))  # an array we have no answer to fails by its shape
            yield golden.case(name, array, TOLERANCE)
            if array.size and f"{name}.stats" in golden.file:
                error = largest_difference(statistics(array), golden.file[f"{name}.stats"])
                yield Case(f"{golden.name} {name}, statistics of the whole", error, TOLERANCE)


def outputs(golden: Golden) -> dict:
    """Every array of a golden file, whole, and the state dict of the network under `state`."""
    made = extractor(golden.info["case"], weights="random:0", device="cpu")
    reader = made.reader  # type: ignore[attr-defined]
    network = fill(reader.network, golden.info["seed"])
    pixels = golden.picture(golden.info["input"])
    keys = reader(pixels)[0]
    unit = functional.normalize(keys, dim=1)
    tokens = network.norm(reader.tokens(pixels, blocks=len(network.blocks)))
    return {
        "state": network.state_dict(),
        "k": keys.numpy(),
        "k_cosine": (unit @ unit.T).numpy(),
        "cls": tokens[0, 0].numpy(),
        "pos": reader.positions(tuple(golden.info["grid"]))[0].numpy(),
    }


def statistics(array: np.ndarray) -> np.ndarray:
    """Mean, standard deviation, mean of absolute values, least and greatest entry."""
    array = array.astype(np.float64)
    return np.array([array.mean(), array.std(), np.abs(array).mean(), array.min(), array.max()])


def _keys(folder: Path, name: str, state: dict[str, torch.Tensor]) -> Case:
    """How many entries differ from the published list, by name or shape."""
    path = folder / "dino_keys.json"
    published = json.loads((path if path.is_file() else OWN / path.name).read_text())[name]
    found = {key: list(value.shape) for key, value in state.items()}
    differing = {key for key in published | found if published.get(key) != found.get(key)}
    return Case(f"{name} keys and shapes", float(len(differing)), 0.0)
