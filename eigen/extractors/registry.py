"""Name -> extractor: built in, any ViT or convolutional network of timm, and plug-ins."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from data.errors import SettingError
from eigen.extractors.contract import Extractor
from eigen.extractors.lowlevel import LowLevel
from eigen.extractors.zoo import BACKBONES, CONVOLUTIONAL, Backbone, Convolutional

ENTRY_POINTS = "eigenshape.extractors"
TRANSFORMERS = ("vision_transformer", "deit", "eva")  # timm's modules of what `vit` reads
LOWLEVEL_PATCH = {"lowlevel": 16, "lowlevel8": 8}
BUILT_IN = (*LOWLEVEL_PATCH, *BACKBONES, *CONVOLUTIONAL)

logger = logging.getLogger(__name__)


def names() -> list[str]:
    """Every name `extractor` knows, plug-ins included; `timm:NAME` comes on top of these."""
    return [*BUILT_IN, *sorted(_plugins())]


def extractor(
    name: str,
    *,
    weights: str | Path | None = None,
    facet: str = "key",
    block: int = -1,
    stages: Sequence[str] | None = None,
    patch: int | None = None,
    enlargement: float | None = None,
    centring: float | None = None,
    device: str = "auto",
    autocast: str | None = None,
) -> Extractor:
    """Make the extractor called `name`.

    Parameters
    ----------
    name : str
        One of `names()`, or `timm:NAME` for a ViT or convolutional network by its timm name.
    weights : path, "random:SEED" or None
        File of the weights (.pth, .pt, .safetensors); None asks the hub by name; "random:SEED"
        makes weights up, for timing and tests.
    facet : {"key", "query", "value", "token"}
        What of the block's attention becomes the feature; "token" is the block's output.
    block : int
        Which block, counted from 0, or from the end where negative.
    stages, patch, enlargement, centring
        Of convolutional networks only, see `eigen.extractors.cnn.CNN`; facet and block are of
        vision transformers only.
    device : str
        "auto" (CUDA where there is one, else the CPU), "cpu", "cuda", "cuda:1".
    autocast : {None, "bf16", "fp16"}
        Precision of the network's products. The features are float32 either way.

    Raises
    ------
    SettingError
        Unknown name, facet or block, or an option the extractor has no use for.
    WeightsError
        Weights that are missing, unreadable, unsafe or of another network.
    """
    blocks: dict[str, Any] = {"facet": facet, "block": block}
    reading: dict[str, Any] = {
        "stages": stages,
        "patch": patch,
        "enlargement": enlargement,
        "centring": centring,
    }
    options: dict[str, Any] = {"weights": weights, "device": device, "autocast": autocast}
    if name in LOWLEVEL_PATCH:
        _refuse_options(name, weights=weights, **blocks, **reading)
        return LowLevel(name, patch=LOWLEVEL_PATCH[name])
    if name in _plugins():
        _refuse_options(name, **reading)
        return _plugged_in(_plugins()[name], {**options, **blocks})
    if name not in BUILT_IN and not name.startswith("timm:"):
        raise SettingError(f"no extractor {name!r}; known: {', '.join(names())}, timm:NAME")
    # Imported here: torch and timm take seconds, which lowlevel need not pay.
    if name not in CONVOLUTIONAL and _is_transformer(name):
        from eigen.extractors.vit import ViT

        _refuse_options(name, **reading)
        return ViT(name, _backbone(name), **blocks, **options)
    from eigen.extractors.cnn import CNN

    _refuse_options(name, **blocks)
    return CNN(name, _convolutional(name), **reading, **options)


def _backbone(name: str) -> Backbone:
    if name in BACKBONES:
        return BACKBONES[name]
    wanted = name.removeprefix("timm:")
    # Under timm's name a published network keeps its published position embedding.
    return next((known for known in BACKBONES.values() if known.timm == wanted), Backbone(wanted))


def _convolutional(name: str) -> Convolutional:
    return CONVOLUTIONAL.get(name) or Convolutional(name.removeprefix("timm:"))


def _is_transformer(name: str) -> bool:
    """Is `name` a plain vision transformer, of which blocks are read and not stages?"""
    if name in BACKBONES:
        return True
    from timm.models import is_model_in_modules

    return is_model_in_modules(name.removeprefix("timm:"), TRANSFORMERS)


def _refuse_options(name: str, **given: object) -> None:
    """Refuse what only a network can honour; a device is no such thing."""
    defaults = inspect.signature(extractor).parameters
    for option, value in given.items():
        if value != defaults[option].default:
            raise SettingError(
                f"{name} has no {option}: expected {defaults[option].default!r}, found {value!r}"
            )


def _plugins() -> dict[str, EntryPoint]:
    """Announced extractors by name; none may take the name of a built-in one."""
    announced = {found.name: found for found in entry_points(group=ENTRY_POINTS)}
    for name in announced.keys() & set(BUILT_IN):
        logger.warning("extractor %r of %s is hidden by ours", name, announced.pop(name).value)
    return announced


def _plugged_in(found: EntryPoint, options: dict[str, Any]) -> Extractor:
    """Load another package's extractor and check that it is one."""
    try:
        made = found.load()(**options)
    except SettingError:
        raise
    except Exception as error:  # whatever it is, the user must learn whose it is
        raise SettingError(f"extractor {found.name!r} ({found.value}) failed: {error!r}") from error
    if not isinstance(made, Extractor):
        missing = [name for name in _members(Extractor) if not hasattr(made, name)]
        raise SettingError(
            f"extractor {found.name!r} ({found.value}) has no {', '.join(missing)};"
            " see eigen.extractors.contract.Extractor"
        )
    return made


def _members(protocol: type) -> list[str]:
    return ["__call__", *sorted(name for name in vars(protocol) if not name.startswith("_"))]
