"""The published test loop, oracle included, against `fusion`.

Counts and predictions are exact, percentages in points.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from eval.sazs import oracle
from eval.sazs.metrics import Tally, count
from eval.sazs.segmenter import enlarged, margin
from models.sazs.networks import log_probabilities
from tests.parity.case import Case, available
from tests.parity.golden import Golden

FILES = ("fusion.npz",)
PERCENT = 1e-4


def cases(folder: Path) -> Iterator[Case]:
    golden = Golden.find(folder, "fusion")
    if golden is not None:
        yield from available(_loop(golden))


def _loop(golden: Golden) -> Iterator[Case]:
    given, class_ids = golden.file, golden.info["class_ids"]
    counting = f"reference_{golden.info['benchmark']}"
    predictions = [_predict(golden, number) for number in range(len(given["mask"]))]
    packed = np.stack([np.packbits(prediction) for prediction in predictions])
    yield golden.case("pred", packed, 0)

    plain, chosen = Tally(len(given["text"])), Tally(len(given["text"]))
    plain_areas, chosen_areas = [], []
    won: list[bool] = []
    for number, prediction in enumerate(predictions):
        class_id = int(given["class_id"][number])
        truth, void = (given["mask"][number] == value for value in (class_id + 1, 255))
        masks = _unpacked(given["eig_masks"][number], truth.shape)
        index = oracle.choose(prediction, masks, truth, void, counting=counting)
        is_won = index >= 0
        areas = [
            count(mask, truth, void, counting=counting)
            for mask in (prediction, prediction if index < 0 else masks[index])
        ]
        if areas[0][1, 1] == 0:
            # Nothing predicted and nothing to find: the IoU is 0/0, every published comparison
            # with it is false, and the choice and counts of the image before are used again.
            areas, is_won = [plain_areas[-1], chosen_areas[-1]], won[-1]
        plain_areas.append(areas[0])
        chosen_areas.append(areas[1])
        won.append(is_won)
        plain.add(class_id, areas[0])
        chosen.add(class_id, areas[1])
    yield golden.case("mask_won", np.array(won, int), 0)
    for prefix, areas, tally in (("plain_", plain_areas, plain), ("", chosen_areas, chosen)):
        yield golden.case(f"{prefix}inter", np.array(areas)[:, 0], 0)
        yield golden.case(f"{prefix}union", np.array(areas)[:, 1], 0)
        yield golden.case(f"{prefix}miou", np.array(tally.miou(class_ids)), PERCENT)
        yield golden.case(f"{prefix}class_iou", 100 * tally.class_iou(class_ids), PERCENT)
        yield golden.case(f"{prefix}fb_iou", np.array(tally.fb_iou(class_ids)), PERCENT)


def _predict(golden: Golden, number: int) -> np.ndarray:
    features = torch.from_numpy(golden.file["features"][number : number + 1])
    texts = torch.from_numpy(golden.file["text"][golden.file["class_id"][number]])
    log_prob = enlarged(log_probabilities(features, texts), golden.file["mask"].shape[1:])
    return margin(log_prob) > 0


def _unpacked(bits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    flat = np.unpackbits(bits, axis=-1)[:, : int(np.prod(shape))]
    return flat.reshape(-1, *shape).astype(bool)
