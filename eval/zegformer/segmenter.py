"""Segment images into any vocabulary, with ZegFormer and, optionally, CLIP's view of each mask.

Every image passes the network on its own, so its result depends on nothing but itself; CLIP's crops
of several images share batches. What the published program computes in vain is left out without
changing a result: crops of other styles, and all but one of the crops of empty masks.

Ding et al., "Decoupling Zero-Shot Semantic Segmentation", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.errors import SettingError, VocabularyError
from eigen.store.maps import EigenMaps
from eval.zegformer import crops, eigen_queries, segments
from eval.zegformer import ensemble as gzs
from eval.zegformer.eigen_queries import EigenUse
from eval.zegformer.segments import Segments
from models.clip.clip import CLIP
from models.clip.clip import PIXEL_MEAN as CLIP_MEAN
from models.clip.clip import PIXEL_STD as CLIP_STD
from models.zegformer.network import normalised_batch


@dataclass(frozen=True)
class Classes:
    """The classes that segments may be given.

    Attributes
    ----------
    text : Tensor, (K, D), unit rows
        Compared with queries.
    unseen : Tensor, (K,) bool
    crop_text : Tensor (K, D) with unit rows, or None
        Compared with CLIP's features of crops.
    """

    text: Tensor
    unseen: Tensor
    crop_text: Tensor | None = None

    def __post_init__(self) -> None:
        rows = {"text": len(self.text), "unseen": len(self.unseen)}
        if self.crop_text is not None:
            rows["crop_text"] = len(self.crop_text)
        if len(set(rows.values())) != 1:
            raise VocabularyError(f"expected one row per class in each, found {rows}")

    def to(self, device: torch.device) -> Classes:
        crop_text = None if self.crop_text is None else self.crop_text.to(device)
        return Classes(self.text.to(device), self.unseen.to(device), crop_text)


@dataclass(frozen=True)
class Scoring:
    """How scores are made. The defaults are those of the published COCO-Stuff evaluation.

    Attributes
    ----------
    mode, lam : see `gzs.class_scores`
    gamma : subtracted from what seen classes score at each pixel
    style, geometry : see `crops`
    most_no_object : queries that are "no object" with a higher probability are left out, except
        the likeliest object; 1 (published) keeps all
    crops_at_once : crops in one pass of CLIP, by default what suits the device; changes memory and
        speed, no result
    """

    mode: str = "ensemble"
    lam: float = gzs.LAMBDA
    gamma: float = 0.1
    style: str = "cropmask"
    geometry: str = "published"
    most_no_object: float = 1.0
    crops_at_once: int | None = None

    def __post_init__(self) -> None:
        crops.check(self.style, self.geometry)


@dataclass(frozen=True)
class Queries:
    """The network's output for one image.

    image : (3, H, W) uint8. logits : (Q, K + 1). masks : (Q, H', W') logits at the padded size.
    """

    image: Tensor
    logits: Tensor
    masks: Tensor

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[1], self.image.shape[2]


class Segmenter:
    """Run ZegFormer inference on images.

    Parameters
    ----------
    model : models.zegformer.network.ZegFormer, on its device
    classes : Classes
    clip : CLIP, needed by every mode but "query"
    scoring : Scoring
    eigen_use : EigenUse
        How eigenvectors are used where they are given.

    Raises
    ------
    SettingError
        Unknown mode, or one that needs CLIP where there is none.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: Classes,
        *,
        clip: CLIP | None = None,
        scoring: Scoring | None = None,
        eigen_use: EigenUse | None = None,
    ) -> None:
        self.model = model.eval()
        self.eigen_use = eigen_use or EigenUse()
        self.device = next(model.parameters()).device
        self.classes = classes.to(self.device)
        self.clip = clip
        self.scoring = scoring or Scoring()
        if self.scoring.mode not in gzs.MODES:
            raise SettingError(f"mode {self.scoring.mode!r}: choose {', '.join(gzs.MODES)}")
        if self.scoring.mode != "query" and (clip is None or classes.crop_text is None):
            raise SettingError(
                f"mode {self.scoring.mode!r} needs CLIP and the classes' crop_text; give both, or "
                "choose 'query'"
            )

    @torch.inference_mode()
    def segments(
        self, images: Sequence[Tensor], eigen: Sequence[EigenMaps] | None = None
    ) -> list[Segments]:
        """Scored masks of images.

        Parameters
        ----------
        images : (3, H, W) uint8 RGB each
        eigen : eigenvectors of each image at its size; used as `eigen_use` says
        """
        photos = [self.queries(image) for image in images]
        if eigen is None:
            return self.scored(photos)
        candidates = [self._candidates(maps) for maps in eigen]
        if "refine" in self.eigen_use.ways:
            photos = [
                replace(photo, masks=eigen_queries.refined(photo.masks, own, self.eigen_use))
                for photo, own in zip(photos, candidates, strict=True)
            ]
        found = self.scored(photos)
        if "propose" in self.eigen_use.ways:
            found = [
                self._with_proposals(photo, own, extra)
                for photo, own, extra in zip(photos, found, candidates, strict=True)
            ]
        return found

    def predict(
        self,
        images: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        eigen: Sequence[EigenMaps] | None = None,
    ) -> list[Tensor]:
        """The best class of each pixel at the given sizes, (H, W) int64 per image."""
        found = self.segments(images, eigen)
        if eigen is None or "smooth" not in self.eigen_use.ways:
            return [self.labels(own, size) for own, size in zip(found, sizes, strict=True)]
        labels = []
        for own, size, maps in zip(found, sizes, eigen, strict=True):
            planes = torch.from_numpy(maps.planes).to(self.device)
            planes = segments.enlarged(planes, size)
            smooth = eigen_queries.smoothed(self.maps(own, size), planes, self.eigen_use.weight)
            labels.append(smooth.argmax(dim=0))
        return labels

    @torch.inference_mode()
    def named(
        self, image: Tensor, size: tuple[int, int], eigen: EigenMaps | None = None
    ) -> tuple[Tensor, Tensor]:
        """Score, without calibration, and int64 id of the best class of each pixel at `size`.

        `eigen` are the eigenvectors at the size of `image`, used as `eigen_use` says.
        """
        (found,) = self.segments([image], None if eigen is None else [eigen])
        best, labels = self.best(found, size)
        seen = ~self.classes.unseen.to(labels.device)
        return gzs.uncalibrated(best, labels, seen=seen, gamma=self._gamma(found)), labels

    def _candidates(self, maps: EigenMaps) -> Tensor:
        found = eigen_queries.eigen_segments(maps, smallest=self.eigen_use.smallest)
        return torch.from_numpy(found).to(self.device)

    def _with_proposals(self, photo: Queries, found: Segments, candidates: Tensor) -> Segments:
        """Eigen segments as further masks, named by CLIP, or in mode "query" by the queries."""
        if not len(candidates):
            return found
        H, W = photo.masks.shape[1:]
        masks = eigen_queries.as_masks(candidates, (H, W))
        if self.scoring.mode == "query":
            scores = eigen_queries.named_by_queries(found.scores, found.masks.sigmoid(), candidates)
        else:
            # Without a learned "no object" the column takes no share.
            none = torch.full((len(masks), photo.logits.shape[1]), -torch.inf, device=self.device)
            (logits,) = self._crop_logits([Queries(photo.image, none, masks)])
            scores = gzs.class_scores(none, logits, self.classes.unseen, mode="image")
        # A proposal counts next to all queries that cover its pixels.
        return Segments(
            torch.cat([found.scores, scores]),
            torch.cat([found.masks, masks]),
            found.size,
            self.eigen_use.gamma,
        )

    @torch.inference_mode()
    def queries(self, image: Tensor) -> Queries:
        """The network's masks and logits of one image."""
        image = image.to(self.device)
        batch = normalised_batch([image])
        (last,) = self.model(batch, self.classes.text)
        padded = (batch.shape[2], batch.shape[3])
        logits, masks = last.logits[0].float(), last.masks[0].float()
        if self.scoring.most_no_object < 1:
            none = logits.softmax(dim=1)[:, -1]
            kept = none <= none.min().clamp(min=self.scoring.most_no_object)
            logits, masks = logits[kept], masks[kept]
        return Queries(image, logits, segments.enlarged(masks, padded))

    @torch.inference_mode()
    def scored(self, photos: Sequence[Queries]) -> list[Segments]:
        """Class scores for the queries of images."""
        scoring, unseen = self.scoring, self.classes.unseen
        if scoring.mode == "query":
            of_crops: Iterator[Tensor | None] = iter([None] * len(photos))
        else:
            of_crops = self._crop_logits(photos)
        return [
            Segments(
                gzs.class_scores(photo.logits, logits, unseen, mode=scoring.mode, lam=scoring.lam),
                photo.masks,
                photo.size,
            )
            for photo, logits in zip(photos, of_crops, strict=True)
        ]

    def bands(self, found: Segments, size: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
        """Calibrated score maps at `size`, some rows at a time; see `segments.score_bands`."""
        seen = ~self.classes.unseen
        return segments.score_bands(found, size, seen=seen, gamma=self._gamma(found))

    def _gamma(self, found: Segments) -> float:
        return self.scoring.gamma if found.gamma is None else found.gamma

    def maps(self, found: Segments, size: tuple[int, int]) -> Tensor:
        """Calibrated score maps at `size`, (K, H, W)."""
        return torch.cat([maps for _, maps in self.bands(found, size)], dim=1)

    def best(self, found: Segments, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The highest calibrated score of each pixel at `size`, (H, W), and its class, int64."""
        tops = [maps.max(dim=0) for _, maps in self.bands(found, size)]
        return torch.cat([top.values for top in tops]), torch.cat([top.indices for top in tops])

    def labels(self, found: Segments, size: tuple[int, int]) -> Tensor:
        """The best class of each pixel at `size`, (H, W) int64."""
        return self.best(found, size)[1]

    def crops_of(self, photo: Queries, side: int) -> tuple[Tensor, Tensor]:
        """What CLIP sees of an image's masks; see `crops.crops`."""
        height, width = photo.masks.shape[1:]
        image = normalised_batch([photo.image], mean=CLIP_MEAN, std=CLIP_STD, divisor=1)[0]
        padded = F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1]))
        scoring = self.scoring
        return crops.crops(
            padded,
            photo.masks,
            photo.size,
            side=side,
            style=scoring.style,
            geometry=scoring.geometry,
        )

    def crop_features(self, photos: Sequence[Queries]) -> list[Tensor]:
        """CLIP's features of every query's crop, (Q, D) per image, not normalised."""
        clip = self._clip()
        shown = [self.crops_of(photo, clip.image_size) for photo in photos]
        pictures = torch.cat([picture for picture, _ in shown])
        # A few at a time stay in the cache of a CPU, many keep a GPU busy.
        at_once = self.scoring.crops_at_once or (4 if self.device.type == "cpu" else 64)
        features = torch.cat([clip.encode_image(part) for part in pictures.split(at_once)])
        of_photos = features.split([len(picture) for picture, _ in shown])
        return [own[row] for own, (_, row) in zip(of_photos, shown, strict=True)]

    def _crop_logits(self, photos: Sequence[Queries]) -> Iterator[Tensor]:
        clip, text = self._clip(), self.classes.crop_text
        if text is None:
            raise SettingError("crops need the classes' crop_text; give it")
        for photo, features in zip(photos, self.crop_features(photos), strict=True):
            scale = clip.logit_scale.exp()
            yield gzs.image_logits(features, text, scale, photo.logits[:, -1])

    def _clip(self) -> CLIP:
        if self.clip is None:
            raise SettingError("crops need CLIP's image tower; give one")
        return self.clip
