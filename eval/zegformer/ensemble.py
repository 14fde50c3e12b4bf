"""Class scores of queries from two sources: the query's embedding, and CLIP's view of its crop.

Seen classes had masks in training, unseen ones only names. The ensemble trusts the query more on
seen and CLIP more on unseen classes; calibration lowers what seen classes score on every pixel.

Ding et al., "Decoupling Zero-Shot Semantic Segmentation", CVPR 2022, equations 4 and 5.
"""

from __future__ import annotations

import torch
from torch import Tensor

from data.errors import SettingError

MODES = ("query", "image", "ensemble", "ensemble_all")
LAMBDA = 2 / 3


def image_logits(
    features: Tensor, text: Tensor, scale: Tensor | float, no_object: Tensor
) -> Tensor:
    """CLIP's logits of crops, with the query's own "no object" in the last column.

    Parameters
    ----------
    features : Tensor, (Q, D)
        CLIP's features of the crops, of any length.
    text : Tensor, (K, D), unit rows
    scale : CLIP's temperature, exp(logit_scale)
    no_object : Tensor, (Q,)
        The query's logit.

    Returns
    -------
    (Q, K + 1) float32
    """
    unit = features / features.norm(dim=1, keepdim=True)
    logits = scale * (unit @ text.to(unit.dtype).T)
    return torch.cat([logits.float(), no_object[:, None].float()], dim=1)


def class_scores(
    query: Tensor,
    image: Tensor | None,
    unseen: Tensor,
    *,
    mode: str,
    lam: float = LAMBDA,
) -> Tensor:
    """Scores (Q, K) that weigh the masks.

    Parameters
    ----------
    query : Tensor, (Q, K + 1)
        The network's logits, "no object" last.
    image : Tensor (Q, K + 1) or None
        `image_logits`; not needed by "query".
    unseen : Tensor, (K,) bool
    mode : str
        "query", "image": that source's probabilities. "ensemble": seen classes
        query^lam * m^(1 - lam), m the mean of CLIP's probabilities over the seen classes; unseen
        ones query^(1 - lam) * image^lam. "ensemble_all": the latter for all classes.
    lam : float in [0, 1]

    Raises
    ------
    SettingError
        Unknown mode, or no `image` where it is needed.
    """
    if mode not in MODES:
        raise SettingError(f"mode {mode!r} is not known; choose {', '.join(MODES)}")
    of_query = query.softmax(dim=1)[:, :-1]
    if mode == "query":
        return of_query
    if image is None:
        raise SettingError(f"mode {mode!r} needs CLIP's image tower; give one, or choose 'query'")
    of_image = image.softmax(dim=1)[:, :-1]
    if mode == "image":
        return of_image
    for_unseen = of_query ** (1 - lam) * of_image**lam
    if mode == "ensemble_all" or bool(unseen.all()):
        return for_unseen
    mean = of_image[:, ~unseen].mean(dim=1, keepdim=True)
    return torch.where(unseen, for_unseen, of_query**lam * mean ** (1 - lam))


def uncalibrated(best: Tensor, labels: Tensor, *, seen: Tensor, gamma: float) -> Tensor:
    """Scores (H, W) of the classes `labels` before seen classes, (K,) bool, lost `gamma`."""
    return best + max(gamma, 0.0) * seen[labels]
