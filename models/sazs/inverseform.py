"""The frozen regressor of InverseForm: two boundary tiles in, four numbers of a transform out.

SAZS' shape loss sends tiles of predicted and true edge maps through it. Keys `fc.0`, `fc.2`, `fc.4`
as in the published `distance_measures_regressor.pth`, whose keys may begin with `model.` or
`modules.`.

Borse et al., "InverseForm: A Loss Function for Structured Boundary-Aware Segmentation", CVPR 2021.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from data import weight_files
from models.checkpoints import load_state

TILE = 224  # pixels per side


class InverseNet(nn.Module):
    """Fully connected on two flattened tiles: 100352 -> 1000 -> 32 -> 4."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(2 * TILE * TILE, 1000),
            nn.ReLU(),
            nn.Linear(1000, 32),
            nn.ReLU(),
            nn.Linear(32, 4),
        )

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Four numbers per pair of tiles, (T, 4).

        Parameters
        ----------
        predicted, target : Tensor, (T, 1, 224, 224)
        """
        return self.fc(torch.cat([predicted.flatten(1), target.flatten(1)], dim=1))


def load_regressor(path: str | Path) -> InverseNet:
    """The regressor with published weights, frozen, in evaluation mode.

    Raises
    ------
    WeightsError
        Unreadable, or not the regressor's weights.
    """
    weights = {
        key.removeprefix("model.").removeprefix("modules."): value
        for key, value in weight_files.read(path).tensors.items()
    }
    network = InverseNet()
    load_state(network, weights, path)
    return network.requires_grad_(False).eval()
