"""Name -> extractor: built in, any ViT or convolutional network of timm, and plug-ins.

To add an extractor, write its module and register a function that makes it here; or announce it
from your own package, see docs/extractors.md.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from data.errors import SettingError, WeightsError
from data.files import expanded
from data.settings import nearest
from eigen.extractors.contract import Extractor
from eigen.extractors.spec import ExtractorSpec, random_seed
from eigen.extractors.zoo import BACKBONES, CONVOLUTIONAL, Backbone, Convolutional

ENTRY_POINTS = "eigenshape.extractors"
TIMM = "timm:"
DEFAULT = ExtractorSpec()

logger = logging.getLogger(__name__)

Make = Callable[[ExtractorSpec, str], Extractor]
"""From the settings and the name of a device to an extractor."""


@dataclass(frozen=True)
class Family:
    """Extractors that one function makes.

    Attributes
    ----------
    make : callable
    options : frozenset of str
        Fields of `ExtractorSpec`, next to the name, that have an effect on them.
    network : bool
        Whether they use a GPU where there is one.
    """

    make: Make
    options: frozenset[str]
    network: bool


REGISTRY: dict[str, Family] = {}
"""Family of each built-in name."""

OPTIONS = frozenset(ExtractorSpec.model_fields) - {"name"}
NETWORK = frozenset({"weights", "autocast"})
BLOCKS = NETWORK | {"facet", "block"}
STAGES = NETWORK | {"stages", "patch", "enlargement", "centring"}
_TRANSFORMERS = ("vision_transformer", "deit", "eva")  # timm's modules of networks that `vit` reads


def register(
    *names: str, options: frozenset[str] = frozenset(), network: bool = False
) -> Callable[[Make], Family]:
    """Decorate a function that makes the extractors of some names; it imports what it needs."""

    def enter(make: Make) -> Family:
        family = Family(make, options, network)
        REGISTRY.update(dict.fromkeys(names, family))
        return family

    return enter


@register("lowlevel", "lowlevel8")
def _lowlevel(spec: ExtractorSpec, device: str) -> Extractor:
    from eigen.extractors.lowlevel import LowLevel

    return LowLevel(spec.name, patch=8 if spec.name == "lowlevel8" else 16)


@register(*BACKBONES, options=BLOCKS, network=True)
def _vit(spec: ExtractorSpec, device: str) -> Extractor:
    from eigen.extractors.vit import ViT  # imports torch and timm, which takes seconds

    return ViT(spec, backbone(spec.name), device=device)


@register(*CONVOLUTIONAL, options=STAGES, network=True)
def _cnn(spec: ExtractorSpec, device: str) -> Extractor:
    from eigen.extractors.cnn import CNN

    known = CONVOLUTIONAL.get(spec.name)
    return CNN(spec, known or Convolutional(spec.name.removeprefix(TIMM)), device=device)


def _timm(name: str) -> Family:
    """The family of "timm:NAME": a plain vision transformer, or else a convolutional network."""
    import timm
    from timm.models import is_model_in_modules

    wanted = name.removeprefix(TIMM)
    if not timm.is_model(wanted):
        raise SettingError(
            f"extractor: timm has no {wanted!r}; {nearest(wanted, timm.list_models())}"
        )
    return _vit if is_model_in_modules(wanted, _TRANSFORMERS) else _cnn


def backbone(name: str) -> Backbone:
    """The network of a built-in name, or of "timm:NAME"."""
    if name in BACKBONES:
        return BACKBONES[name]
    wanted = name.removeprefix(TIMM)
    # Under timm's name a published network keeps its published position embedding.
    return next((known for known in BACKBONES.values() if known.timm == wanted), Backbone(wanted))


def names() -> list[str]:
    """All names that `extractor` accepts, including plug-ins, except `timm:NAME`."""
    return [*REGISTRY, *sorted(_plugins())]


def family(name: str, setting: str = "extractor") -> Family:
    """The family that makes the extractor called `name`; `setting` is what messages call it.

    Raises
    ------
    SettingError
        No such extractor; suggests the nearest name.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    if name.startswith(TIMM):
        return _timm(name)
    if name in (plugins := _plugins()):
        return Family(_plugin(plugins[name]), BLOCKS, network=True)
    raise SettingError(
        f"{setting}: there is no {name!r}; {nearest(name, names())} (docs/extractors.md lists all,"
        " timm:NAME takes networks of timm)"
    )


def check(spec: ExtractorSpec) -> None:
    """Raise `SettingError` for an unknown extractor, or a setting that has no effect on it."""
    useful = family(spec.name).options
    for option in sorted(OPTIONS - useful):
        value, default = getattr(spec, option), getattr(DEFAULT, option)
        if value != default:
            raise SettingError(
                f"{option}: {value!r} has no effect with extractor={spec.name}, which has no"
                f" {option}; leave it out"
            )


def check_weights(spec: ExtractorSpec) -> None:
    """Check before any job runs that an extractor can be made, without opening its network.

    Raises
    ------
    SettingError
        As `check`; or weights that are neither a path nor "random:SEED".
    WeightsError
        The file does not exist, or none was named for weights that no hub has.
    """
    check(spec)
    if random_seed(spec.weights) is not None or "weights" not in family(spec.name).options:
        return
    if spec.weights is not None and not expanded(spec.weights).is_file():
        raise WeightsError(
            f"{spec.weights}: no such file; set weights to a .pth or .safetensors file of"
            f" {spec.name}"
        )
    published = {**BACKBONES, **CONVOLUTIONAL}.get(spec.name, Backbone(spec.name))
    if spec.weights is None and not (published.on_hub or published.package):
        file = published.file
        raise WeightsError(
            f"{spec.name}: its weights cannot be fetched by name; get {file} and set"
            f" weights=PATH/{file}"
        )


def is_installed(name: str) -> bool:
    """Whether the Python package with the weights of a network is installed."""
    package = CONVOLUTIONAL[name].package
    return package is not None and importlib.util.find_spec(package) is not None


def make(spec: ExtractorSpec, device: str = "auto") -> Extractor:
    """Make the extractor that a spec describes; errors as `extractor`."""
    check(spec)
    return family(spec.name).make(spec, device)


def extractor(
    name: str,
    *,
    weights: str | Path | None = DEFAULT.weights,
    facet: str = DEFAULT.facet,
    block: int = DEFAULT.block,
    stages: str | Sequence[str] | None = DEFAULT.stages,
    patch: int | None = DEFAULT.patch,
    enlargement: float | None = DEFAULT.enlargement,
    centring: float | None = DEFAULT.centring,
    device: str = "auto",
    autocast: str | None = DEFAULT.autocast,
) -> Extractor:
    """Make the extractor called `name`.

    Parameters
    ----------
    name : str
        One of `names()`, or `timm:NAME` for a ViT or convolutional network by its timm name.
    weights : path, "random:SEED" or None
        File of the weights (.pth, .pt, .safetensors); None fetches it from the hub; "random:SEED"
        initialises them randomly, for timing and tests.
    facet : {"key", "query", "value", "token"}
        Which projection of the block's attention is the feature; "token" is the block's output.
    block : int
        Of vision transformers: which block, counted from 0, or from the end if negative.
    stages, patch, enlargement, centring
        Of convolutional networks, see `ExtractorSpec`.
    device : str
        "auto" (CUDA where there is one, else the CPU), "cpu", "cuda", "cuda:1".
    autocast : {"none", "bf16", "fp16"}
        Precision of the network's products. The features are float32 either way.

    Raises
    ------
    SettingError
        Unknown name, facet or block, or a setting that has no effect on this extractor.
    WeightsError
        Weights that are missing, unreadable, unsafe or of another network.
    """
    values = {
        "name": name,
        "weights": weights,
        "facet": facet,
        "block": block,
        "stages": stages,
        "patch": patch,
        "enlargement": enlargement,
        "centring": centring,
        "autocast": autocast,
    }
    return make(ExtractorSpec.named(values, {"name": "extractor"}), device)


def _plugins() -> dict[str, EntryPoint]:
    """Announced extractors by name; none may take the name of a built-in one."""
    announced = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    for name in announced.keys() & REGISTRY.keys():
        logger.warning(
            "extractor %r of %s is ignored: the name is built in", name, announced.pop(name).value
        )
    return announced


def _plugin(entry: EntryPoint) -> Make:
    """The function that makes another package's extractor, and checks that it is one."""

    def make(spec: ExtractorSpec, device: str) -> Extractor:
        options = {**spec.model_dump(include=set(BLOCKS)), "device": device}
        options["autocast"] = None if spec.autocast == "none" else spec.autocast
        try:
            plugin = entry.load()(**options)
        except SettingError:
            raise
        except Exception as error:  # any failure of a plug-in must name the plug-in
            raise SettingError(
                f"extractor {entry.name!r} ({entry.value}) failed: {error!r}"
            ) from error
        if not isinstance(plugin, Extractor):
            missing = [name for name in _members(Extractor) if not hasattr(plugin, name)]
            raise SettingError(
                f"extractor {entry.name!r} ({entry.value}) has no {', '.join(missing)};"
                " see eigen.extractors.contract.Extractor"
            )
        return plugin

    return make


def _members(protocol: type) -> list[str]:
    return ["__call__", *sorted(name for name in vars(protocol) if not name.startswith("_"))]
