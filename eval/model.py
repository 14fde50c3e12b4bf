"""How a trained network is opened, and what opening it returns, whichever the system."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data.text.vocabulary import Vocabulary, from_names
from eval.class_names import class_id_of

if TYPE_CHECKING:
    from eval.mask_scores import MaskScores
    from eval.predict import Predict

DEFAULT_CONFIG = "configs/coco-stuff/zegformer_R50_bs32_60k_vit16_coco-stuff_gzss_eval.yaml"
"""ZegFormer's configuration where neither the options nor the checkpoint name one."""


@dataclass(frozen=True)
class Options:
    """How a checkpoint is opened.

    Attributes
    ----------
    checkpoint : weights of ZegFormer or SAZS; None takes MODEL.WEIGHTS of the configuration, or
        where there is none the network that comes with this software
    config : ZegFormer's configuration file; by default the one recorded in the checkpoint, else
        `DEFAULT_CONFIG`
    overrides : KEY, VALUE, ... of that configuration; of SAZS only MODEL.DEVICE
    classes : names, or a file of names; by default those of the test set or benchmark
    embeddings : table of text embeddings, in place of CLIP's
    arch : network of a SAZS checkpoint that does not record it
    input_side : SAZS: side of the square that images are resized to; 0 keeps their size;
        None is as the network was trained, or 512
    threshold : pixels with a lower score stay unnamed
    """

    checkpoint: str | None = None
    config: str | None = None
    overrides: tuple[str, ...] = ()
    classes: str | tuple[str, ...] | None = None
    embeddings: str | None = None
    arch: str | None = None
    input_side: int | None = None
    threshold: float = -float("inf")


@dataclass(frozen=True, repr=False)
class Model:
    """A trained network, and the words it can look for.

    Attributes
    ----------
    kind : "zegformer" or "sazs"
    source : file of the weights
    words : classes looked for by default
    trained : classes that had masks in training; None where nothing depends on it
    predictor : makes what predicts images in the classes of a vocabulary
    scorer : makes what scores given masks in the classes of a vocabulary; None where there is none
    """

    kind: str
    source: str
    words: Vocabulary
    trained: Vocabulary | None
    predictor: Callable[[Vocabulary], Predict]
    scorer: Callable[[Vocabulary], MaskScores] | None = None

    def __repr__(self) -> str:
        return f"Model({self.kind!r}, {Path(self.source).name!r}, {len(self.words)} words)"

    def vocabulary(self, names: Sequence[str], seen: Sequence[str] | None = None) -> Vocabulary:
        """The classes of these names; those in `seen` (default: in `trained`) count as seen.

        Raises
        ------
        VocabularyError
            A name is empty or given twice, or `seen` has one that is not in `names`.
        """
        vocabulary = from_names(names, name="the words")
        if seen is not None:
            seen_ids = {vocabulary.index(name) for name in seen}
        elif self.trained is not None:
            trained = self.trained
            seen_ids = {c for c, n in enumerate(names) if class_id_of(n, trained) is not None}
        else:
            return vocabulary
        return vocabulary.holding_out(set(range(len(vocabulary))) - seen_ids)
