"""Read ZegFormer's settings from detectron2's kind of YAML: `_BASE_` files, `KEY VALUE` overrides.

The result is the typed tree of `models.zegformer.settings`. Nothing in a file is executed: the one
Python expression that published files hold is recognised by its form and computed here.
"""

from __future__ import annotations

import difflib
import functools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from reprlib import Repr
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from data.errors import SettingError
from data.files import expanded
from models.zegformer.published_keys import NO_EFFECT, ONLY
from models.zegformer.settings import Section, ZegFormerSettings, from_text

log = logging.getLogger(__name__)

_DEEPEST = 8  # nested mappings: aliases can make one contain itself
_SHORT = Repr()  # aliases can also make the lists of a small file endless
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 80, 80
_SIZES = re.compile(r"\[int\(x \* 0\.1 \* (\d+)\) for x in range\((\d+), (\d+)\)\]")

_EXPECTED = {
    "greater_than_equal": "expected at least {ge}",
    "greater_than": "expected more than {gt}",
    "less_than_equal": "expected at most {le}",
    "less_than": "expected less than {lt}",
    "multiple_of": "expected a multiple of {multiple_of}",
    "finite_number": "expected a finite number",
    "literal_error": "choose {expected}",
    "int_type": "expected an integer",
    "float_type": "expected a number",
    "bool_type": "expected True or False",
    "string_type": "expected text",
    "string_too_short": "expected a text that is not empty",
    "tuple_type": "expected a list",
    "too_short": "expected at least {min_length} entries",
    "too_long": "expected at most {max_length} entries",
    "string_pattern_mismatch": "expected auto, cpu, cuda or cuda:N",
    "model_type": "expected a mapping of keys",
}


def load(path: str | Path, overrides: Sequence[str] = ()) -> ZegFormerSettings:
    """Read a file and its bases over the defaults, then apply the overrides.

    Parameters
    ----------
    path : a YAML file
    overrides : KEY VALUE KEY VALUE ...

    Raises
    ------
    SettingError
        Missing or unreadable file, unknown key (names the nearest one), or a value of another kind,
        out of its range, or not implemented; names the file and the key.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, value, source in _file(Path(path), ()):
        if _takes(key, value, source):
            values[key], sources[key] = value, source
    return override(_build(values, sources), overrides)


def override(settings: ZegFormerSettings, overrides: Sequence[str]) -> ZegFormerSettings:
    """Settings with the KEY VALUE pairs of a command line applied and logged; see `load`."""
    if len(overrides) % 2:
        raise SettingError(f"overrides: {overrides[-1]!r} has no value; give KEY VALUE pairs")
    pairs = zip(overrides[::2], overrides[1::2], strict=True)
    changed = replaced(settings, dict(pairs), source="command line")
    before, after = flat(settings), flat(changed)
    for key in dict.fromkeys(overrides[::2]):
        if key in after:
            log.info("%s: %r -> %r", key, before[key], after[key])
    return changed


def replaced(
    settings: ZegFormerSettings, changes: Mapping[str, Any], *, source: str = "settings"
) -> ZegFormerSettings:
    """Settings with other values for some dotted keys, checked as in `load`."""
    taken = {key: value for key, value in changes.items() if _takes(key, value, source)}
    return _build(flat(settings) | taken, dict.fromkeys(taken, source))


def flat(settings: Section) -> dict[str, Any]:
    """Dotted key -> value; lists for tuples, as YAML and JSON have them."""
    return dict(_flat(nested(settings)))


def nested(settings: Section) -> dict[str, Any]:
    """Settings as the mappings of a YAML file."""
    return settings.model_dump(mode="json")


def from_recipe(recorded: Mapping[str, Any]) -> ZegFormerSettings:
    """The settings that `flat` recorded in a checkpoint; keys that are new since are defaults.

    Raises
    ------
    SettingError
    """
    return replaced(ZegFormerSettings(), recorded, source="the checkpoint's settings")


class _Loader(yaml.SafeLoader):
    """Safe YAML without duplicate keys that reads the computed sizes of published base files."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise SettingError(
                    f"line {line}: {key.value} occurs twice, first in line {lines[key.value]}; "
                    "keep one"
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def _computed(loader: _Loader, node: yaml.Node) -> list[int]:
    arguments = loader.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else []
    match = _SIZES.fullmatch(str(arguments[0]).strip()) if len(arguments) == 1 else None
    if match is None:
        raise SettingError(
            f"line {node.start_mark.line + 1}: refused to run {arguments or node.tag}; write the "
            "values out"
        )
    size, start, stop = map(int, match.groups())
    return [int(x * 0.1 * size) for x in range(start, stop)]


_Loader.add_constructor("tag:yaml.org,2002:python/object/apply:eval", _computed)


def _file(path: Path, above: tuple[Path, ...]) -> Iterator[tuple[str, Any, str]]:
    """(key, value, file) of the bases, then of the file."""
    path = path.resolve()
    if path in above:
        raise SettingError(f"{path}: is its own _BASE_")
    content = _parsed(path)
    base = content.pop("_BASE_", None)
    if not isinstance(base, str | None):
        raise SettingError(
            f"{path}: _BASE_: expected the path of one file, found {_SHORT.repr(base)}"
        )
    if base is not None:
        yield from _file(path.parent / expanded(base), (*above, path))
    given: set[str] = set()
    for key, value in _flat(content):
        if key in given:
            raise SettingError(f"{path}: {key} occurs twice, once with dots; keep one")
        given.add(key)
        yield key, value, str(path)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text("utf-8-sig"), _Loader)  # a SafeLoader
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
    except ValueError as error:  # of YAML's own constructors, for example a date without a day
        raise SettingError(f"{path}: no configuration: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise SettingError(f"{path}: expected a mapping of keys, found {type(content).__name__}")
    return content


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value and prefix.count(".") < _DEEPEST:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _takes(key: str, value: Any, source: str) -> bool:
    """Whether a key has an effect; warns of one that has none, and refuses unknown ones."""
    known, sections = _known()
    if key in NO_EFFECT:
        log.warning("%s: %s has no effect", source, key)
        return False
    if key in ONLY:
        expected = ONLY[key]
        if isinstance(value, str):
            value = from_text(value, wants_text=isinstance(expected, str))
        if (list(value) if isinstance(value, tuple) else value) != expected:
            raise SettingError(
                f"{source}: {key}: only {expected!r} is implemented, found {_SHORT.repr(value)}"
            )
        return False
    if key in known:
        return True
    if key in sections:
        if value is None or value == {}:
            return False
        raise SettingError(
            f"{source}: {key}: expected a mapping of keys, found {_SHORT.repr(value)}"
        )
    like = difflib.get_close_matches(key, [*known, *ONLY, *NO_EFFECT], n=1, cutoff=0.5)
    hint = f"; did you mean {like[0]}?" if like else ""
    raise SettingError(f"{source}: {_SHORT.repr_str(key, 1)[1:-1]} is no known key{hint}")


@functools.cache
def _known() -> tuple[frozenset[str], frozenset[str]]:
    """Every key with an effect, and every section."""
    keys = frozenset(flat(ZegFormerSettings()))
    parts = [key.split(".") for key in (*keys, *ONLY, *NO_EFFECT)]
    sections = {".".join(p[:n]) for p in parts for n in range(1, len(p))}
    return keys, frozenset(sections)


def _build(values: Mapping[str, Any], sources: Mapping[str, str]) -> ZegFormerSettings:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *parents, name = key.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[name] = value
    try:
        return ZegFormerSettings.model_validate(tree)
    except ValidationError as error:
        raise SettingError(_reason(error.errors(include_url=False)[0], sources)) from error


def _reason(error: ErrorDetails, sources: Mapping[str, str]) -> str:
    key = ".".join(part for part in error["loc"] if isinstance(part, str))
    source = f"{sources[key]}: " if key in sources else ""
    context = error.get("ctx", {})
    if error["type"] == "value_error":  # of our own validators, which say what was found
        reason = str(context["error"])
        return f"{source}{key}: {reason}" if key in _known()[0] else f"{source}{key}.{reason}"
    expected = _EXPECTED.get(error["type"], error["msg"]).format(**context)
    return f"{source}{key}: {expected}, found {_SHORT.repr(error['input'])}"
