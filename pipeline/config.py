"""Configuration: YAML and overrides, resolved to the library's settings and a few of the pipeline.

Users see flat keys (`KEYS`), made from the fields of `Config` and of the specs in it. Each stage
depends on some of the keys only (`STAGE_KEYS`): its request holds those (`pipeline.requests`), so a
changed key reruns the stages it bears on and no others.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, StringConstraints, field_validator

from data.errors import SettingError
from data.files import expanded
from data.settings import Spec, expected, nearest
from eigen.extractors.registry import check as check_extractor
from eigen.extractors.registry import family
from eigen.extractors.spec import DEVICE, MAX_PATCHES, ExtractorSpec
from eigen.graphs.spec import GraphSpec
from eigen.mask_spec import MaskSpec
from eigen.object_spec import ObjectSpec
from eigen.segment_spec import SegmentSpec
from eigen.solvers.spec import SolveSpec
from eval.objects.cluster_spec import ClusterSpec
from eval.objects.name_spec import NameSpec


class MachineSpec(Spec):
    """Settings that decide speed and rounding, and are no part of a result's identity."""

    device: Annotated[str, StringConstraints(pattern=DEVICE)] = Field(
        "auto",
        description="Device of the networks; auto uses a GPU if there is one.",
        json_schema_extra={"form": "auto, cpu, cuda or cuda:N"},
    )
    batch_size: int = Field(
        16,
        ge=1,
        description="Images of the same size that pass through the network at once on a GPU;"
        " on the CPU always one.",
    )


class Config(Spec):
    """The resolved configuration."""

    datasets_root: str = Field(
        "datasets",
        description="Folder of the data sets, with VOC2012/ and COCO2014/; masks are written"
        " there too.",
    )
    results_root: str = Field("results", description="Folder for all other results.")
    folder: str | None = Field(
        None, description="Folder of your own images, for the target `folder`."
    )
    photos: Literal["all", "listed"] = Field(
        "all",
        description="Use all images of the data set, or only those that its lists or masks name.",
    )
    shard_size: int = Field(
        256, ge=1, le=100_000, description="Images per shard; a shard is one job."
    )
    strict: bool = Field(
        False, description="Fail at the end of the run if an image was quarantined."
    )
    path: Literal["fused", "staged"] = Field(
        "fused",
        description="fused keeps features and graphs in memory; staged writes them to temporary"
        " files, one job per stage. Both give the same bytes.",
    )
    extractor: ExtractorSpec = ExtractorSpec()
    demo_extractor: str | None = Field(
        None,
        description="Extractor for the data sets of the demo, which downloads nothing. null:"
        " lowlevel8 for the generated world, efficientnet_lite2 for scikit-image's"
        " photos (lowlevel8 if its package is not installed).",
    )
    max_patches: int = Field(
        MAX_PATCHES,
        ge=16,
        le=100_000,
        description="Largest number of patches per image; larger images are reduced before"
        " features are extracted.",
    )
    machine: MachineSpec = MachineSpec()
    graph: GraphSpec = GraphSpec()
    solve: SolveSpec = SolveSpec()
    masks: MaskSpec = MaskSpec()
    overwrite_masks: bool = Field(
        False,
        description="Overwrite masks written by another program, or with other settings from"
        " another results folder.",
    )
    objects: ObjectSpec = ObjectSpec()
    segments: SegmentSpec = SegmentSpec()
    clusters: ClusterSpec = ClusterSpec()
    names: NameSpec = NameSpec()
    report_photos: int = Field(
        200, ge=1, le=2000, description="Largest number of images in the report."
    )
    world_photos: int = Field(
        560, ge=20, le=100_000, description="Number of images in the generated world."
    )

    @field_validator("datasets_root", "results_root", "folder")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        """One spelling of a path: "a//b/" and "a/b" are compared as texts elsewhere."""
        return None if value is None else str(expanded(value))

    def flat(self, *keys: str) -> dict[str, Any]:
        """Values of some keys, none where none is named."""
        return {key: KEYS[key].of(self) for key in keys}


_NAMES = {
    "extractor.name": "extractor",
    "graph.kind": "graph",
    "graph.pixels.step": "pixel_step",
    "graph.pixels.max_nodes": "max_pixel_nodes",
    "graph.pixels.colour_width": "pixel_colour_width",
    "graph.pixels.feature_power": "pixel_feature_power",
    "graph.pixels.links": "pixel_links",
    "masks.method": "mask_method",
    **{
        f"objects.{field}": f"object_{field}" for field in ("method", "count", "pairs", "threshold")
    },
    "objects.least_area": "least_object_area",
    "objects.least_score": "least_object_score",
    "objects.refine": "refine_objects",
    "segments.count": "segments",
    "segments.method": "segment_method",
    "segments.features": "segment_features",
    "clusters.count": "clusters",
    "clusters.dimension": "cluster_dimension",
    "clusters.background": "cluster_background",
    "names.view": "name_view",
    "names.weights": "namer_weights",
    "names.object_weight": "name_object_weight",
    "names.least_score": "least_name_score",
}
"""Published names of keys that differ from the name of their field."""

ALIASES = {"top_k": "k"}  # Snakemake's --config refuses keys of one letter


@dataclass(frozen=True)
class Key:
    """A key of the configuration: a field of `Config`, or of a spec in it."""

    name: str
    path: tuple[str, ...]
    schema: Mapping[str, Any]

    def of(self, config: Config) -> Any:
        """Value of the key in `config`."""
        return functools.reduce(getattr, self.path, config)


def _fields(model: type[Spec], path: tuple[str, ...] = ()) -> Iterator[Key]:
    properties = model.model_json_schema()["properties"]
    for field, info in model.model_fields.items():
        here = (*path, field)
        if isinstance(info.default, Spec):
            yield from _fields(type(info.default), here)
        else:
            yield Key(_NAMES.get(".".join(here), field), here, properties[field])


KEYS = {key.name: key for key in _fields(Config)}


def _keys_of(field: str) -> tuple[str, ...]:
    return tuple(name for name, key in KEYS.items() if key.path[0] == field)


READING = (*_keys_of("extractor"), "max_patches")
GRAPH = _keys_of("graph")
SOLVING = _keys_of("solve")
MASKING = ("datasets_root", "k", *_keys_of("masks"))
OBJECTS = _keys_of("objects")
CLUSTERING = (*_keys_of("clusters"), "seed")
NAMING = _keys_of("names")
SEGMENTING = (*_keys_of("segments"), "classifier", "upsampling", "seed")
MACHINE = _keys_of("machine")
STAGE_KEYS: dict[str, tuple[str, ...]] = {
    "photos": ("results_root", "world_photos", "seed"),
    "manifest": (
        *("datasets_root", "results_root", "folder", "photos", "shard_size", "world_photos"),
    ),
    "features": ("results_root", *READING),
    "laplacian": ("results_root", *GRAPH),
    "eigenvectors": ("results_root", *SOLVING),
    "fused": ("results_root", *READING, *GRAPH, *SOLVING),
    "masks": ("results_root", *MASKING, "overwrite_masks"),
    "index": ("datasets_root", "results_root", "strict", "k"),
    "report": ("results_root", *MASKING, "report_photos"),
    "objects": ("results_root", *READING, *OBJECTS),
    "segments": ("results_root", *READING, *SEGMENTING),
    "clusters": ("datasets_root", "results_root", "folder", *CLUSTERING),
    "names": ("datasets_root", "results_root", "folder", *NAMING),
    "words": ("results_root",),
    "audit": (),
    "discovery": (
        "results_root",
        *READING,
        "tolerance",
        "seed",
        "classifier",
        "report_photos",
    ),
}
"""Keys that decide what a stage writes, and where."""

IDENTITY = {
    "features": READING,
    "laplacian": GRAPH,
    "eigenvectors": SOLVING,
    "fused": (*READING, *GRAPH, *SOLVING),
}
"""Keys that decide the values that a stage writes; stored with them."""


def defaults() -> dict[str, Any]:
    """Default of each key."""
    return Config().flat(*KEYS)


def resolve(overrides: Mapping[str, Any]) -> Config:
    """Check the overrides and fill in defaults.

    Text is parsed as YAML unless the key is a string: `strict=true`, `weights=null`.

    Raises
    ------
    SettingError
        A key that does not exist (the message suggests the nearest), a value of another type or
        out of range, or one that has no effect with the others.
    """
    settings: dict[str, Any] = {}
    for key in sorted(overrides, key=lambda name: name in ALIASES):  # an alias overrides the file
        name = ALIASES.get(key, key)
        if name not in KEYS:
            raise SettingError(f"configuration key {name!r} does not exist; {nearest(name, KEYS)}")
        settings[name] = _typed(KEYS[name], overrides[key])
    config = _build(Config, (), settings)
    check_extractor(config.extractor)
    if config.demo_extractor is not None:
        family(config.demo_extractor, "demo_extractor")
    return config


def _build(model: type[Spec], path: tuple[str, ...], settings: Mapping[str, Any]) -> Any:
    values = {}
    for field, info in model.model_fields.items():
        here = (*path, field)
        if isinstance(info.default, Spec):
            values[field] = _build(type(info.default), here, settings)
        elif (name := _NAMES.get(".".join(here), field)) in settings:
            values[field] = settings[name]
    depth = len(path)
    inside = [key for key in KEYS.values() if key.path[:depth] == path]
    return model.named(values, {".".join(key.path[depth:]): key.name for key in inside})


_NULL = ("", "~", "null", "Null", "NULL")


def _typed(key: Key, value: Any) -> Any:
    """Parse a text as YAML, and also numbers such as 1e-5, which YAML 1.1 takes for text."""
    if not isinstance(value, str):
        return value
    if value in _NULL:
        return None
    if "string" in _types(key):
        return value
    try:
        parsed = yaml.safe_load(value)
        return float(parsed) if isinstance(parsed, str) else parsed
    except (yaml.YAMLError, ValueError):
        return value


def _types(key: Key) -> set[str]:
    return {part.get("type", "string") for part in key.schema.get("anyOf", [key.schema])}


def is_flag(key: str) -> bool:
    """Whether a key is true or false."""
    return "boolean" in _types(KEYS[key])


def describe(key: str) -> str:
    """Range and default of a key, as text."""
    return f"{expected(KEYS[key].schema)}; default {yaml_scalar(KEYS[key].schema['default'])}"


def yaml_scalar(value: Any) -> str:
    """A value as YAML writes it (`null`, `true`, `1.0e-05`)."""
    return yaml.safe_dump(value, default_flow_style=True).splitlines()[0]


def options(config: Config, stage: str) -> list[str]:
    """Command-line options for the keys of `stage` that differ from their defaults.

    >>> options(resolve({"k": 7, "extractor": "lowlevel"}), "eigenvectors")
    ['--k', '7']
    """
    arguments = []
    for key, value in config.flat(*STAGE_KEYS[stage]).items():
        if value == KEYS[key].schema["default"]:
            continue
        name = "--" + key.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(name if value else name.replace("--", "--no-", 1))
        else:
            arguments += [name, "null" if value is None else str(value)]
    return arguments


def json_schema() -> dict[str, Any]:
    """JSON schema of the flat keys, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "eigenshape configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: dict(key.schema) for name, key in KEYS.items()},
    }


def markdown() -> str:
    """`docs/configuration.md`: one row per key."""
    rows = [f"| `{key}` | {KEYS[key].schema['description']} | {describe(key)} |" for key in KEYS]
    return "\n".join([_HEADER, *rows, ""])


_HEADER = """# Configuration

These are the keys of `config/config.yaml`, of `--config KEY=VALUE` and (with dashes) of
`python -m pipeline STAGE`. An unknown key is an error, and so is a setting that has no effect in
combination with the others (`neighbours` with `graph=pixel`). Values are parsed as YAML:
`strict=true`, `weights=null`. Snakemake's `--config` does not accept keys of one letter: write
`top_k=7` instead of `k`.

This page is generated from the settings of the library by `python -m pipeline config --markdown >
docs/configuration.md`; `python -m pipeline config --schema` writes a JSON schema.

| key | meaning | values |
|---|---|---|"""
