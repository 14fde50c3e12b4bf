"""Configuration: YAML and overrides, checked against one schema, resolved to one frozen object.

Each stage depends on some of the keys only (`STAGE_KEYS`). Snakemake hands a job just those that
differ from their defaults, so a changed key reruns the stages it bears on and no others.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from data.errors import SettingError

SCHEMA_PATH = Path(__file__).parent / "schemas" / "config.schema.yaml"

READING = ("extractor", "weights", "facet", "block", "max_patches", "autocast")
PIXELS = (
    "pixel_step",
    "max_pixel_nodes",
    "pixel_colour_width",
    "pixel_feature_power",
    "pixel_links",
)
GRAPH = ("graph", "neighbours", "colour", "colour_weight", *PIXELS)
SOLVING = ("k", "drop_trivial", "solver", "tolerance", "seed")
MASKING = ("datasets_root", "k", "mask_method", "upsampling")
STAGE_KEYS: dict[str, tuple[str, ...]] = {
    "photos": ("results_root", "world_photos", "seed"),
    "manifest": ("datasets_root", "results_root", "folder", "photos", "shard_size"),
    "features": ("results_root", *READING),
    "laplacian": ("results_root", *GRAPH),
    "eigenvectors": ("results_root", *SOLVING),
    "fused": ("results_root", *READING, *GRAPH, *SOLVING),
    "masks": ("results_root", *MASKING),
    "index": ("results_root", "path", "strict"),
    "report": ("results_root", *MASKING, "report_photos"),
}
"""Keys that decide what a stage writes, and where."""


@dataclass(frozen=True)
class Config:
    """The resolved configuration; the fields are the keys of `schemas/config.schema.yaml`."""

    datasets_root: str
    results_root: str
    folder: str | None
    photos: str
    shard_size: int
    strict: bool
    extractor: str
    demo_extractor: str
    weights: str | None
    facet: str
    block: int
    max_patches: int
    autocast: str
    device: str
    batch_size: int
    path: str
    graph: str
    neighbours: int | None
    colour: str
    colour_weight: float
    pixel_step: int
    max_pixel_nodes: int
    pixel_colour_width: float
    pixel_feature_power: float
    pixel_links: int
    k: int
    drop_trivial: bool
    solver: str
    tolerance: float
    seed: int
    mask_method: str
    upsampling: str
    report_photos: int
    world_photos: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@functools.cache
def properties() -> dict[str, dict[str, Any]]:
    """Schema of each key, in the order of the schema file."""
    return yaml.safe_load(SCHEMA_PATH.read_text())["properties"]


def defaults() -> dict[str, Any]:
    """Default of each key."""
    return {key: entry["default"] for key, entry in properties().items()}


def resolve(overrides: Mapping[str, Any]) -> Config:
    """Fill in defaults and check.

    Raises
    ------
    SettingError
        A key that the schema does not have (with the nearest one that it has), or a value of
        another type or out of range.
    """
    for key in overrides:
        if key not in properties():
            near = difflib.get_close_matches(key, properties(), n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(properties())}"
            )
            raise SettingError(f"configuration key {key!r} does not exist; {hint}")
    given = {key: _number(key, value) for key, value in overrides.items()}
    for key, value in given.items():
        _check(key, value)
    return Config(**{**defaults(), **given})


def _number(key: str, value: Any) -> Any:
    """A number that YAML takes for a word: it wants 1.0e-5 where people write 1e-5."""
    if properties()[key]["type"] == "number" and isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def _check(key: str, value: Any) -> None:
    import jsonschema

    try:
        jsonschema.validate(value, properties()[key])
    except jsonschema.ValidationError as error:
        raise SettingError(
            f"configuration key {key!r}: {error.message}; {describe(key)}"
        ) from error


def describe(key: str) -> str:
    """Range and default of a key, in words."""
    entry = properties()[key]
    kinds = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
    parts = [" or ".join(entry["enum"]) if "enum" in entry else " or ".join(kinds)]
    bounds = [
        text.format(entry[bound])
        for bound, text in (
            ("minimum", "from {}"),
            ("exclusiveMinimum", "above {}"),
            ("maximum", "to {}"),
        )
        if bound in entry
    ]
    parts.append(" ".join(bounds))
    parts.append(f"default {yaml_scalar(entry['default'])}")
    return ", ".join(part for part in parts if part)


def yaml_scalar(value: Any) -> str:
    """A value as YAML writes it (`null`, `true`, `1.0e-05`)."""
    return yaml.safe_dump(value, default_flow_style=True).splitlines()[0]


def options(config: Config, stage: str) -> list[str]:
    """Command-line options for the keys of `stage` that differ from their defaults.

    >>> options(resolve({"k": 7, "extractor": "lowlevel"}), "eigenvectors")
    ['--k', '7']
    """
    words = []
    for key in STAGE_KEYS[stage]:
        value = getattr(config, key)
        if value == properties()[key]["default"]:
            continue
        name = "--" + key.replace("_", "-")
        if isinstance(value, bool):
            words.append(name if value else name.replace("--", "--no-", 1))
        else:
            words += [name, str(value)]
    return words


def markdown() -> str:
    """`docs/configuration.md`: one row a key."""
    rows = [
        f"| `{key}` | {' '.join(entry['description'].split())} | {describe(key)} |"
        for key, entry in properties().items()
    ]
    return "\n".join([_HEADER, *rows, ""])


_HEADER = """# Configuration

Keys of `config/config.yaml`, of `--config KEY=VALUE` and (with dashes) of
`python -m pipeline STAGE`. A key that does not exist is refused by name. This page is written by
`python -m pipeline config --markdown > docs/configuration.md`.

| key | meaning | values |
|---|---|---|"""
