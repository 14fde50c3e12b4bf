"""The calibration of a ZegFormer to whose masks eigen segments are added, chosen without labels.

Proposals raise the scores of all classes, so that a calibration chosen without them takes too
little off seen classes. The one that is matched to it leaves as many pixels to unseen classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import torch
from torch import Tensor

from data.text.vocabulary import Vocabulary
from data.zegformer.sets import Pair
from eigen.store.maps import EigenFolder, EigenMaps
from eval.zegformer.eigen_queries import EigenUse
from eval.zegformer.scoring import score
from eval.zegformer.segmenter import Segmenter

_EVERY = 4
"""Every so many pixels count, in either direction."""


class _Leads:
    """Predicts as a segmenter, and keeps by how much seen classes are ahead, uncalibrated."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self.leads: list[Tensor] = []

    def predict(
        self,
        images: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        eigen: Sequence[EigenMaps] | None = None,
    ) -> list[Tensor]:
        unseen, labels = self.segmenter.classes.unseen, []
        for found, size in zip(self.segmenter.segments(images, eigen), sizes, strict=True):
            maps = self.segmenter.maps(replace(found, gamma=0.0), size)
            lead = maps[~unseen].amax(dim=0) - maps[unseen].amax(dim=0)
            self.leads.append(lead[::_EVERY, ::_EVERY].flatten().cpu())
            labels.append(maps.argmax(dim=0))
        return labels


def matched(
    segmenter: Segmenter,
    use: EigenUse,
    pairs: Sequence[Pair],
    vocabulary: Vocabulary,
    eigen: EigenFolder,
    *,
    short: int,
    longest: int,
) -> float:
    """The `gamma` of `use` that leaves as many pixels to unseen classes as there are without.

    Parameters
    ----------
    segmenter : Segmenter
        With the calibration to match, and with seen and unseen classes.
    pairs : images to choose on, such as those of the training; their labels have no effect
    short, longest : as in `score`
    """
    leads = []
    for maps in (None, eigen):
        model = copy(segmenter)
        model.eigen_use = use
        keeping = _Leads(model)
        score(keeping, pairs, vocabulary, short=short, longest=longest, eigen=maps)
        leads.append(torch.cat(keeping.leads).double())
    share = (leads[0] < max(segmenter.scoring.gamma, 0.0)).double().mean()
    ordered = leads[1].sort().values
    return max(0.0, float(ordered[min(int(share * len(ordered)), len(ordered) - 1)]))
