"""Configuration files in detectron2's form: nested YAML, `_BASE_`, `KEY VALUE` overrides.

A configuration is a flat mapping from dotted keys ("SOLVER.BASE_LR") to values, checked against a
list of keys: `live` ones have a default and an effect, `fixed` ones are accepted at the one value
that is built, `dead` ones are accepted with a warning, because published files have them. Nothing
in a file is ever executed: the one Python expression that published files hold is recognised by
its form and computed here.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import Repr
from typing import Any

import yaml

from data.errors import SettingError

log = logging.getLogger(__name__)

Config = dict[str, Any]

_DEEPEST = 8  # mappings in each other: one may hold itself
# Aliases make the lists of a small file endless.
_SHORT = Repr()
_SHORT.maxlevel, _SHORT.maxstring = 2, 80
_SIZES = re.compile(r"\[int\(x \* 0\.1 \* (\d+)\) for x in range\((\d+), (\d+)\)\]")


@dataclass(frozen=True)
class Keys:
    """What may be configured.

    live : key -> default. fixed : key -> the only value. dead : keys without effect.
    """

    live: Mapping[str, Any]
    fixed: Mapping[str, Any]
    dead: frozenset[str]

    @classmethod
    def read(cls, path: str | Path) -> Keys:
        """From a YAML file of three nested mappings `live`, `fixed` and `dead`."""
        content = yaml.safe_load(Path(path).read_text())
        parts = {name: dict(_flat(content[name])) for name in ("live", "fixed", "dead")}
        return cls(parts["live"], parts["fixed"], frozenset(parts["dead"]))


class _Loader(yaml.SafeLoader):
    """Safe YAML that understands the list of sizes that published base files compute."""


def _computed(loader: _Loader, node: yaml.Node) -> list[int]:
    arguments = loader.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else []
    found = _SIZES.fullmatch(str(arguments[0]).strip()) if len(arguments) == 1 else None
    if found is None:
        raise SettingError(
            f"line {node.start_mark.line + 1}: refused to run {arguments or node.tag}; write the "
            "values out"
        )
    size, start, stop = map(int, found.groups())
    return [int(x * 0.1 * size) for x in range(start, stop)]


_Loader.add_constructor("tag:yaml.org,2002:python/object/apply:eval", _computed)


def load(path: str | Path, overrides: Sequence[str], keys: Keys) -> Config:
    """The defaults, then the file with its bases, then the overrides.

    Parameters
    ----------
    path : a YAML file
    overrides : KEY VALUE KEY VALUE ...

    Raises
    ------
    SettingError
        Absent or unreadable file, unknown key (says which is like it), value of another kind, or a
        value that is not built.
    """
    config = dict(keys.live)
    for key, value, source in _file(Path(path), ()):
        _set(config, key, value, source, keys)
    return override(config, overrides, keys)


def override(config: Config, overrides: Sequence[str], keys: Keys) -> Config:
    """The configuration with values of the command line; see `load`."""
    config = dict(config)
    if len(overrides) % 2:
        raise SettingError(f"overrides: {overrides[-1]!r} has no value; give KEY VALUE pairs")
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        before = config.get(key)
        _set(config, key, _parsed(text), "command line", keys)
        if key in keys.live:
            log.info("%s: %r -> %r", key, before, config[key])
    return config


def _file(path: Path, above: tuple[Path, ...]) -> Iterator[tuple[str, Any, str]]:
    """(key, value, file) of the bases, then of the file."""
    path = path.resolve()
    if path in above:
        raise SettingError(f"{path}: is its own _BASE_")
    try:
        content = yaml.load(path.read_text(), _Loader)  # a SafeLoader
    except OSError as error:
        raise SettingError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: no text in UTF-8 ({error.reason})") from error
    except RecursionError as error:
        raise SettingError(f"{path}: nested too deeply") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise SettingError(f"{path}: no configuration: {reason[:200]}") from error
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise SettingError(f"{path}: expected a mapping of keys, found {type(content).__name__}")
    base = content.pop("_BASE_", None)
    if not isinstance(base, str | None):
        raise SettingError(
            f"{path}: _BASE_: expected the path of one file, found {_SHORT.repr(base)}"
        )
    if base is not None:
        yield from _file(path.parent / base, (*above, path))
    for key, value in _flat(content):
        yield key, value, str(path)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and prefix.count(".") < _DEEPEST:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def nested(config: Mapping[str, Any]) -> dict[str, Any]:
    """A flat configuration as the mappings of a YAML file."""
    tree: dict[str, Any] = {}
    for key, value in config.items():
        *parents, name = key.split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return tree


def _set(config: Config, key: str, value: Any, source: str, keys: Keys) -> None:
    if isinstance(value, tuple):
        value = list(value)
    if key in keys.dead:
        log.warning("%s: %s has no effect", source, key)
    elif key in keys.fixed:
        if value != keys.fixed[key]:
            raise SettingError(
                f"{source}: {key}: only {keys.fixed[key]!r} is built, found {_SHORT.repr(value)}"
            )
    elif key in keys.live:
        config[key] = _of_kind(value, keys.live[key], f"{source}: {key}")
    else:
        known = [*keys.live, *keys.fixed, *keys.dead]
        like = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"; did you mean {like[0]}?" if like else ""
        raise SettingError(f"{source}: {key} is no known key{hint}")


def _of_kind(value: Any, default: Any, where: str) -> Any:
    if isinstance(default, float) and isinstance(value, int | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)  # YAML reads 1e-4 as a text
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingError(f"{where}: expected a finite number, found {value}")
    if isinstance(default, list) and isinstance(value, int | float):
        return [value]
    if type(value) is not type(default):
        expected, found = f"{type(default).__name__} like {default!r}", _SHORT.repr(value)
        raise SettingError(f"{where}: expected {expected}, found {found}")
    return value


def _parsed(text: str) -> Any:
    """The value of an override: a Python or YAML literal, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        pass
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return text if value is None else value
