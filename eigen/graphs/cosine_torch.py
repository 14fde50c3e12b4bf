"""`eigen.graphs.cosine.CosineAffinity` on a torch device: graphs of a million patches on a GPU."""

from __future__ import annotations

import numpy as np
import torch

from eigen.graphs.cosine import CosineAffinity
from eigen.solvers.batched import full_precision

# Side of a tile of similarities: 1 GiB in float32, and one more while it is widened.
SIDE = 1 << 14


class DeviceCosineAffinity(CosineAffinity):
    """max(X X^T, 0), never stored; its products run on `device`, vectors stay with NumPy.

    Parameters
    ----------
    features : ndarray, shape (n, d), float32, unit rows
    device : str or torch.device
    """

    def __init__(self, features: np.ndarray, device: str | torch.device):
        super().__init__(features)
        self._features = torch.from_numpy(self.features).to(device)

    def matmat(self, vectors: np.ndarray) -> np.ndarray:
        """W @ vectors, as `CosineAffinity.matmat`."""
        operand = torch.from_numpy(np.ascontiguousarray(vectors)).to(self._features.device)
        result = torch.zeros_like(operand, dtype=torch.float64)
        tiles = [slice(start, start + SIDE) for start in range(0, len(operand), SIDE)]
        with full_precision():
            for i, rows in enumerate(tiles):
                for columns in tiles[i:]:
                    similarity = (self._features[rows] @ self._features[columns].T).clamp_(min=0)
                    similarity = similarity.to(operand.dtype)
                    result[rows] += similarity @ operand[columns]
                    if columns != rows:  # the transposed tile
                        result[columns] += similarity.T @ operand[rows]
        return result.to(operand.dtype).cpu().numpy()
