"""Eigenvectors of an image at its full size, from a folder of shards or of published PNGs.

A published folder (`pascal_k5`, `coco_k5`) has `{id}_k0.png` ... per image: 0 or 255, native size.
Only the signs of the vectors are left there, so their planes are -1 and 1.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.datasets import mask_folder
from data.errors import ShardError
from data.pictures import read_label
from eigen.masks import masks
from eigen.pairs import Eigenpairs
from eigen.store import shards
from eigen.upsample import upsample_pairs


@dataclass(frozen=True, eq=False)
class EigenMaps:
    """What a fusion may know of an image besides the network's answer.

    Attributes
    ----------
    masks : ndarray, shape (K, H, W), bool
    planes : ndarray, shape (K, H, W), float32
        The vectors at the image's size.
    eigenvalues : ndarray, shape (K,), float64
        Zeros where they are not known.
    image : ndarray, shape (H, W, 3), uint8, optional
        For methods that look at colours too.
    """

    masks: np.ndarray
    planes: np.ndarray
    eigenvalues: np.ndarray
    image: np.ndarray | None = None

    @classmethod
    def of_pairs(cls, pairs: Eigenpairs, size: tuple[int, int]) -> EigenMaps:
        """From eigenpairs, for an image of `size` (H, W)."""
        return cls(masks(pairs, size), upsample_pairs(pairs, size), pairs.eigenvalues)

    @classmethod
    def of_masks(cls, binary: np.ndarray) -> EigenMaps:
        """From (K, H, W) bool masks alone."""
        planes = np.where(binary, np.float32(1), np.float32(-1))
        return cls(binary, planes, np.zeros(len(binary)))


class EigenFolder:
    """Eigenvectors by image id, read on access.

    Parameters
    ----------
    folder : path
        Shards with their `manifest.json`, or `{id}_k{0..}.png` files.

    Raises
    ------
    ShardError
        The folder holds neither.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = mask_folder(folder)
        self._shards: Mapping[str, Eigenpairs] | None = None
        self._pngs: dict[str, set[int]] = {}
        if (self.folder / shards.MANIFEST).is_file():
            self._shards = shards.open(self.folder)
        elif self.folder.is_dir():
            self._pngs = _list_pngs(self.folder)
        if self._shards is None and not self._pngs:
            raise ShardError(
                f"{self.folder}: expected shards with {shards.MANIFEST} or files ID_k0.png; "
                "compute them with the pipeline (snakemake pascal_k5) or leave --eig_dir out"
            )
        # The most frequent number: a stray mask must not make all other images incomplete.
        counts = Counter(_leading(indices) for indices in self._pngs.values())
        self._k = max(counts, key=lambda k: (counts[k] if k else 0, k), default=0)

    def __contains__(self, image_id: object) -> bool:
        if self._shards is not None:
            return image_id in self._shards
        return self._k > 0 and set(range(self._k)) <= self._pngs.get(str(image_id), set())

    def missing(self, image_ids: Iterable[str]) -> list[str]:
        """Those of the ids whose eigenvectors are not all here, each once, sorted."""
        return sorted(image_id for image_id in set(image_ids) if image_id not in self)

    def require(self, image_ids: Iterable[str]) -> None:
        """Raise `ShardError` naming what is missing, if anything is."""
        wanted = set(image_ids)
        missing = self.missing(wanted)
        if missing:
            raise ShardError(
                f"{self.folder}: {len(missing)} of {len(wanted)} images have no eigenvectors "
                f"(first: {', '.join(missing[:3])}). Compute them, or score without these images' "
                "eigenvectors: --missing-eig network"
            )

    def maps(self, image_id: str, size: tuple[int, int]) -> EigenMaps:
        """Eigenvectors of one image of size (H, W).

        Raises
        ------
        ShardError
            They are missing, damaged, or of another size.
        ImageError
            A PNG that cannot be read.
        """
        if image_id not in self:
            self.require([image_id])
        if self._shards is not None:
            return EigenMaps.of_pairs(self._shards[image_id], size)
        binary = np.stack([read_mask(self._png(image_id, k)) for k in range(self._k)])
        if binary.shape[1:] != size:
            raise ShardError(
                f"{self._png(image_id, 0)}: expected the image's size {size}, found "
                f"{binary.shape[1:]}; published masks have the native size"
            )
        return EigenMaps.of_masks(binary)

    def _png(self, image_id: str, k: int) -> Path:
        return self.folder / f"{image_id}_k{k}.png"


def read_mask(path: Path) -> np.ndarray:
    """A mask of two values as (H, W) bool: the larger is true; of one value, all true unless 0.

    Raises
    ------
    ShardError
        More than two values: an image, or a mask that was resized or compressed with loss.
    ImageError
        As `data.pictures.read_label`.
    """
    values = read_label(path)
    low, high = int(values.min()), int(values.max())
    mask = values == high
    if not (mask | (values == low)).all():
        shown = ", ".join(map(str, np.unique(values)[:4]))
        raise ShardError(
            f"{path}: expected a mask of two values, found {shown}, ...; compute it again"
        )
    return mask if low < high else np.full(values.shape, high > 0)


def _list_pngs(folder: Path) -> dict[str, set[int]]:
    """Image id -> indices of its `_k` files."""
    indices: dict[str, set[int]] = defaultdict(set)
    for entry in os.scandir(folder):
        if match := re.fullmatch(r"([^.].*)_k(0|[1-9]\d*)\.png", entry.name):
            indices[match[1]].add(int(match[2]))
    return dict(indices)


def _leading(indices: Collection[int]) -> int:
    """How many of 0, 1, 2, ... there are before the first gap."""
    return next(k for k in range(len(indices) + 1) if k not in indices)
