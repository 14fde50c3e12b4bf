"""SAZS's settings as typed records: the one place for name, type, range, default and meaning.

`python sazs.py` offers them under their published names (`pipeline.click_options`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data.errors import SettingError

Mode = Literal["corrected", "reference"]
Autocast = Literal["none", "bf16", "fp16"]
_AUTOCAST: Any = Field(default="none", description="Precision of the network's products.")


@dataclass(frozen=True)
class Flag:
    """Names of an option that differ from the name of its field."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


class Options(BaseModel):
    """A record of settings; an invalid one raises a `SettingError` that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    if not TYPE_CHECKING:  # type checkers derive the signature from the fields

        def __init__(self, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                name = ".".join(map(str, first["loc"]))
                reason = first["msg"].removeprefix("Value error, ")
                given = f"; found {first['input']!r}" if name else ""
                raise SettingError(f"{name}: {reason}{given}" if name else reason) from None


class DataOptions(Options):
    """Images, classes and text embeddings; the folder of the results; the device."""

    data_dir: Annotated[Path, Flag("-d", "--data-dir")] = Field(
        default=Path("datasets"), description="Folder of the data sets."
    )
    benchmark: Literal["pascal", "coco"] | None = Field(
        default=None, description="Benchmark. Default: that of the checkpoint, otherwise pascal."
    )
    fold: int | None = Field(
        default=None,
        ge=0,
        le=3,
        description="Fold of held-out classes. Default: that of the checkpoint, otherwise 0.",
    )
    hold_out: str | None = Field(
        default=None,
        description='Classes to hold out instead of a fold, as "cat, dog". Default: those of '
        "the checkpoint, if any.",
    )
    leave_out_unseen: bool = Field(
        default=False,
        description="Do not train on images that show a held-out class. As published, they are"
        " used, with the class as background.",
    )
    out: Annotated[Path, Flag("--filename")] = Field(
        default=Path("output"), description="Folder of the results."
    )
    names: Path | None = Field(
        default=None,
        description="Class names, one per line, in class-id order. Default: those of the"
        " checkpoint.",
    )
    embeddings: str | None = Field(
        default=None,
        description="CLIP, by name or file, or a table of embeddings (.npy ...). Default: the"
        " table in the checkpoint, otherwise ViT-B/32.",
    )
    lists: Path | None = Field(
        default=None, description="Lists of (image, class): our JSON file, or the published folder."
    )
    validation_share: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of training images held out to select the best weights.",
    )
    mode: Mode = Field(
        default="corrected", description="Corrected, or as published (docs/protocols.md)."
    )
    input_side: int | None = Field(
        default=None,
        ge=0,
        le=8192,
        description="Side of the square that test images are resized to; 0 keeps their size."
        " Default: that of the checkpoint, otherwise 512, or 0 for lite2 networks.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N.")


class _Recipe(Options):
    """Settings that determine the weights and whose defaults suit every network and benchmark."""

    arch: str = Field(
        default="vitl16_384", description="Network; `python sazs.py archs` lists all."
    )
    pretrained: str = Field(default="", description="Initial weights of the whole network.")
    accumulate: int = Field(default=1, ge=1, description="Batches to accumulate per step.")
    lr_mode: Literal["poly", "step"] = Field(default="poly", description="Learning rate schedule.")
    step: int = Field(default=200, ge=1, description="Epochs between decays of --lr-mode step.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of sgd.")
    scale: Annotated[float, Flag("--random-scale")] = Field(
        default=2.0, ge=0, le=16, description="Largest factor of random scaling."
    )
    rotate: Annotated[int, Flag("--random-rotate")] = Field(
        default=10, ge=0, le=180, description="Largest angle of random rotation, in degrees."
    )
    reduce: int = Field(
        default=1, ge=1, le=64, description="Factor by which images are reduced before cropping."
    )
    shape_loss: Literal["none", "reference", "fixed"] = Field(
        default="none", description="Shape loss (docs/protocols.md)."
    )
    regressor: str = Field(
        default="", description="Path of distance_measures_regressor.pth, for --shape-loss."
    )
    absent: float = Field(
        default=0.0,
        ge=0,
        description="Weight of a loss on seen classes that the image does not show; 0 as"
        " published.",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of all random numbers.")


class Recipe(_Recipe):
    """Settings that, together with the data, determine the weights of a training run.

    `init` is where the backbone starts from: "hub", a path, or "none".
    """

    init: str = "hub"
    mode: Mode = "corrected"
    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=6, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=0.001, gt=0)
    backbone_rate: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    crop: int = Field(default=512, ge=16)
    drop_rate: float = Field(default=0.9, ge=0, lt=1)
    overlap: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _check_crop(self) -> Recipe:
        if self.crop % 16:
            raise SettingError(
                f"crop size {self.crop}: expected a multiple of 16, so that the output of every "
                "network is an eighth of it"
            )
        if self.arch.startswith("drn") and self.batch_size < 2:
            raise SettingError(
                "batch_size: the batch norm of DRN needs at least 2 samples per step in training"
            )
        return self


class RecipeOptions(_Recipe):
    """A recipe in which None means the published value for the network and benchmark."""

    init: str | None = Field(
        default=None,
        description="Initial weights of the backbone: hub (the default if available), a file,"
        " or none.",
    )
    epochs: int | None = Field(
        default=None, ge=1, description="Epochs. Default: as published for network and benchmark."
    )
    batch_size: Annotated[int | None, Flag("--batch_size")] = Field(
        default=None,
        ge=1,
        description="Samples per step, over all processes. Default: 6, as published.",
    )
    optimizer: Literal["sgd", "adamw"] | None = Field(
        default=None, description="Optimizer. Default: sgd, as published."
    )
    lr: float | None = Field(
        default=None,
        gt=0,
        description="Learning rate. Default: as published for network and benchmark.",
    )
    backbone_rate: float | None = Field(
        default=None,
        gt=0,
        description="Learning rate of the backbone of lite2, relative to --lr. Default: 0.1.",
    )
    weight_decay: Annotated[float | None, Flag("--weight-decay", "--wd")] = Field(
        default=None, ge=0, description="Weight decay. Default: 0.0001, as published."
    )
    crop: Annotated[int | None, Flag("-s", "--crop-size")] = Field(
        default=None,
        ge=16,
        le=8192,
        description="Side of the crops, a multiple of 16. Default: 512, as published.",
    )
    drop_rate: Annotated[float | None, Flag("--drate")] = Field(
        default=None, ge=0, lt=1, description="Channel dropout; the ViT networks have none."
    )
    overlap: float | None = Field(
        default=None, ge=0, description="Weight of a Dice loss, for small data sets. Default: 0."
    )

    def completed(self, **published: Any) -> Recipe:
        """The recipe with `published` values for settings that are None."""
        given = {key: value for key, value in self.model_dump().items() if value is not None}
        return Recipe(**{**published, **given})


class Running(Options):
    """Settings of a training run that are not part of its recipe."""

    processes: int | None = Field(
        default=None,
        ge=1,
        description="Training processes on this machine. Default: one per visible GPU, or one"
        " on the CPU.",
    )
    workers: Annotated[int, Flag("-j", "--workers")] = Field(
        default=2,
        ge=0,
        description="Processes that read samples, per training process; 0 reads in the"
        " training process.",
    )
    features: Path | None = Field(
        default=None,
        description="Folder for the stored features of a frozen backbone, which runs may"
        " share. Default: features, in the folder of the results.",
    )
    autocast: Autocast = _AUTOCAST
    channels_last: bool = Field(default=False, description="Use the channels-last memory format.")
    compile: bool = Field(default=False, description="Compile the network with torch.compile.")
    ema: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Decay of the exponential moving average of the weights; 0: no average.",
    )
    save_every: int = Field(
        default=0, ge=0, description="Steps between checkpoints; 0: one per epoch."
    )
    validation_items: int = Field(
        default=400, ge=0, description="Largest number of items to score after each epoch."
    )


class StartOptions(Options):
    """Whether a training run resumes."""

    resume: Path | None = Field(
        default=None,
        description="Checkpoint to resume from. Default: the one in the folder, if any.",
    )
    restart: bool = Field(
        default=False, description="Start over, ignoring the checkpoint in the folder."
    )
    eig_dir: Annotated[Path | None, Flag("--eig_dir")] = Field(
        default=None, description="Has no effect on training."
    )


class ScoringOptions(Options):
    """Settings of a test."""

    arch: str | None = Field(
        default=None, description="Network, if the checkpoint does not record it."
    )
    weights: Annotated[Path | None, Flag("--resume", "--pretrained")] = Field(
        default=None, description="Checkpoint to test."
    )
    untrained: bool = Field(
        default=False, description="Test --arch with randomly initialised weights, as a baseline."
    )
    eig_dir: Annotated[Path | None, Flag("--eig_dir")] = Field(
        default=None, description="Folder of eigenvectors: shards, or published PNGs."
    )
    fusion: str = Field(
        default="auto",
        description="Fusion rule: agreement, voting, projection, diffusion, or auto, whichever"
        " of the last two is better on seen classes.",
    )
    missing_eig: Literal["error", "network"] = Field(
        default="error",
        description="For images without eigenvectors, stop or use the network's mask.",
    )
    allow_missing: bool = Field(
        default=False,
        description="Leave out test images whose files are missing, and report their number.",
    )
    seen: bool = Field(default=False, description="Also score the seen classes of the test images.")
    pictures: int = Field(
        default=6, ge=0, description="Number of best and of worst cases on the page."
    )
    features: Path | None = Field(
        default=None,
        description="Folder for the stored features of a frozen backbone. Default: do not"
        " store them.",
    )
    autocast: Autocast = _AUTOCAST
    workers: Annotated[int, Flag("-j", "--workers")] = Field(
        default=2, ge=0, description="Has no effect."
    )
