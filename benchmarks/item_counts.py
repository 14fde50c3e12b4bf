"""Counts of many answers to the same items, kept per image, and the gains they sum to.

An item is one class of one image, asked of one network. The unit of the bootstrap is the image:
all its items, networks and answers are drawn together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

DRAWS = 500
NETWORK, AT_ONCE = "network", "at once: network"


class Named(Protocol):
    name: str
    held_out: frozenset[int]


@dataclass(eq=False)
class ItemCounts:
    """Counts of n items.

    Attributes
    ----------
    network, image, class_id : ndarray, (n,)
        Name of the network; number of the image among those joined; class id.
    fold : ndarray, (n,), str
        The classes its network had not seen, as "2, 5, ...".
    seen : ndarray, (n,), bool
        Was the network trained on the class?
    counts : answer -> (n, 6)
        Intersection, union, and the four of `eval.boundary.matches`.
    shapes : ndarray, (n, 3)
        Area, compactness and parts of the truth.
    """

    network: np.ndarray
    fold: np.ndarray
    image: np.ndarray
    class_id: np.ndarray
    seen: np.ndarray
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))

    @classmethod
    def empty(
        cls, numbers: Sequence[tuple[int, int]], *, seen: Sequence[bool], names: Sequence[Named]
    ) -> ItemCounts:
        """For items (index of the network, class id) of one image, without counts."""
        return cls(
            network=np.array([names[n].name for n, _ in numbers]),
            fold=np.array([", ".join(map(str, sorted(names[n].held_out))) for n, _ in numbers]),
            image=np.zeros(len(numbers), int),
            class_id=np.array([c for _, c in numbers]),
            seen=np.array(seen, bool),
        )

    def write(self, path: Path) -> None:
        answers = {f"counts/{name}": value for name, value in self.counts.items()}
        facts = {k: getattr(self, k) for k in ("network", "fold", "class_id", "seen", "shapes")}
        temporary = path.with_suffix(".part")
        with temporary.open("wb") as file:
            np.savez_compressed(file, **facts, **answers)
        temporary.rename(path)

    @classmethod
    def read(cls, path: Path) -> ItemCounts:
        with np.load(path) as file:
            facts = {k: file[k] for k in ("network", "fold", "class_id", "seen", "shapes")}
            counts = {k.removeprefix("counts/"): file[k] for k in file.files if k[:7] == "counts/"}
        return cls(image=np.zeros(len(facts["seen"]), int), counts=counts, **facts)

    def select(self, chosen: np.ndarray) -> ItemCounts:
        """The items where `chosen`, (n,) bool, is true."""
        return ItemCounts(
            self.network[chosen],
            self.fold[chosen],
            self.image[chosen],
            self.class_id[chosen],
            self.seen[chosen],
            {name: value[chosen] for name, value in self.counts.items()},
            self.shapes[chosen],
        )

    def groups(self) -> Iterator[tuple[str, ItemCounts]]:
        """Seen classes of all networks, the unseen ones, and those of each fold alone."""
        yield "seen", self.select(self.seen)
        yield "unseen", self.select(~self.seen)
        for fold in sorted(set(self.fold), key=lambda classes: int(classes.split(",")[0])):
            yield f"unseen {fold}", self.select((self.fold == fold) & ~self.seen)

    def iou(self, name: str) -> np.ndarray:
        """Foreground IoU of each item, (n,), in [0, 1]."""
        counts = self.counts[name]
        return counts[:, 0] / np.maximum(counts[:, 1], 1)

    def figures(self, name: str, times: np.ndarray) -> np.ndarray:
        """mIoU and boundary F in percent, (2, draws): the mean over networks.

        Parameters
        ----------
        times : ndarray, (draws, images)
            How often each image is taken.
        """
        found = []
        for network in np.unique(self.network):
            per_class = []
            for c in np.unique(self.class_id[self.network == network]):
                items = (self.network == network) & (self.class_id == c)
                sums = times[:, self.image[items]] @ self.counts[name][items]
                iou = np.where(sums[:, 1] > 0, sums[:, 0] / np.maximum(sums[:, 1], 1), np.nan)
                f = np.where(sums[:, 1] > 0, _f(sums[:, 2:]), np.nan)
                per_class.append([iou, f])
            # A class that no drawn image shows is left out of that draw's mean.
            found.append(np.nanmean(np.array(per_class), axis=0))
        return 100 * np.mean(found, axis=0)


def _f(sums: np.ndarray) -> np.ndarray:
    precision = sums[:, 0] / np.maximum(sums[:, 1], 1)
    recall = sums[:, 2] / np.maximum(sums[:, 3], 1)
    return 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def joined(parts: Sequence[ItemCounts]) -> ItemCounts:
    """The items of several images, with the answers that all of them have."""

    def every(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    answers = [n for n in parts[0].counts if all(n in part.counts for part in parts)]
    return ItemCounts(
        network=every("network"),
        fold=every("fold"),
        image=np.repeat(np.arange(len(parts)), [len(part.seen) for part in parts]),
        class_id=every("class_id"),
        seen=every("seen"),
        counts={name: np.concatenate([part.counts[name] for part in parts]) for name in answers},
        shapes=every("shapes"),
    )


def drawn(images: int, *, draws: int = DRAWS) -> np.ndarray:
    """How often each image is taken: once each, then in `draws` bootstrap draws."""
    rng = np.random.default_rng(0)
    times = [np.bincount(rng.integers(images, size=images), minlength=images) for _ in range(draws)]
    return np.array([np.ones(images, int), *times], float)


def gains(group: ItemCounts) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(answer, figures, their gains over the network), (2, 1 + draws): mIoU and boundary F."""
    images = np.unique(group.image, return_inverse=True)[1]
    times = drawn(int(images.max()) + 1)
    compact = replace(group, image=images)
    found = {name: compact.figures(name, times) for name in group.counts}
    for name, values in found.items():
        yield name, values, values - found[AT_ONCE if name.startswith("at once") else NETWORK]


def summary(chosen_on: ItemCounts, others: ItemCounts) -> list[dict[str, Any]]:
    """One row per answer: gains on the images that choose (seen classes), and on the others."""
    rows: dict[str, dict[str, Any]] = {}
    first = [("chosen on", group) for name, group in chosen_on.groups() if name == "seen"]
    for shown, group in [*first, *others.groups()]:
        for name, values, gain in gains(group):
            row = rows.setdefault(name, {"answer": name})
            low, high = np.quantile(gain[0, 1:], (0.025, 0.975))
            row[f"{shown}: mIoU"] = (
                f"{values[0, 0]:.2f} ({gain[0, 0]:+.2f} [{low:+.2f}, {high:+.2f}])"
            )
            row[f"{shown}: F"] = f"{values[1, 0]:.1f} ({gain[1, 0]:+.1f})"
    return list(rows.values())


def chosen(chosen_on: ItemCounts, *, of: str = "") -> str:
    """The answer whose gain on seen classes has the highest lower bound, of those named with `of`.

    Not the largest gain: among dozens of answers that one is partly luck.
    """
    (group,) = (group for name, group in chosen_on.groups() if name == "seen")
    lows = {
        name: float(np.quantile(gain[0, 1:], 0.025))
        for name, _, gain in gains(group)
        if of in name and not name.startswith(("oracle", "at once", NETWORK))
    }
    return max(lows, key=lambda name: lows[name])
