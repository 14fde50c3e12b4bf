"""Typed settings: one declaration of the type, range, default and meaning of each.

A `Spec` is an immutable record whose fields are declared with `pydantic.Field`. Mistakes raise a
`SettingError` of one line that names the setting, what was expected and what was found. A field
that only matters together with a value of another one says so, `Field(..., json_schema_extra=
only_with(kind="pixel"))`: setting it without that value is also an error, never ignored.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import core_schema

from data.errors import SettingError


class Spec(BaseModel):
    """Base of all settings: frozen, hashable, strict in its types, no unknown names."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=False
    )

    if not TYPE_CHECKING:  # the signature that type checkers derive from the fields is stricter

        def __init__(self, /, **values: Any) -> None:
            _fill(self, values, {})

    @classmethod
    def named(cls, values: Mapping[str, Any], names: Mapping[str, str]) -> Any:
        """A spec from `values`; messages use `names` for its fields ("field" or "field.field")."""
        spec = cls.__new__(cls)
        _fill(spec, values, names)
        return spec

    def check(self, name: Callable[[str], str]) -> None:
        """Raise `SettingError` if fields contradict each other; `name` maps a field to its name."""


def only_with(**values: Any) -> dict[str, Any]:
    """`json_schema_extra` of a field that has an effect only with certain values of another."""
    return {"only_with": {k: v if isinstance(v, list) else [v] for k, v in values.items()}}


@dataclass(frozen=True)
class OneOf:
    """Annotation of a string that is one of the names in a registry."""

    names: Callable[[], Iterable[str]]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(schema), "enum": list(self.names())}

    def _known(self, name: str) -> str:
        if name not in self.names():
            raise ValueError("not a registered name")
        return name


def _fill(spec: Spec, values: Mapping[str, Any], names: Mapping[str, str]) -> None:
    def name(field: str) -> str:
        return names.get(field, field)

    plain = {key: v.item() if isinstance(v, np.generic) else v for key, v in values.items()}
    try:
        type(spec).__pydantic_validator__.validate_python(plain, self_instance=spec)
    except ValidationError as error:
        raise SettingError(_first_line(error, type(spec), name)) from None
    _refuse_unused(spec, name)
    spec.check(name)


def _first_line(error: ValidationError, model: type[Spec], name: Callable[[str], str]) -> str:
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        known = [name(known) for known in model.model_fields]
        return f"{field}: no such setting; {nearest(field, known)}"
    schema = model.model_json_schema()["properties"][field]
    return f"{name(field)}: expected {expected(schema)}; found {first['input']!r}"


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint at the name that was probably meant by one that does not exist."""
    names = list(known)
    if near := difflib.get_close_matches(word, names, n=1):
        return f"did you mean {near[0]!r}?"
    more = ", ..." if len(names) > 50 else ""
    return f"expected one of {', '.join(names[:50])}{more}"


def _refuse_unused(spec: Spec, name: Callable[[str], str]) -> None:
    """Raise `SettingError` for the first field that was changed and has no effect."""
    for field, info in type(spec).model_fields.items():
        value = getattr(spec, field)
        if value == info.get_default(call_default_factory=True):
            continue
        for other, allowed in conditions(info).items():
            if getattr(spec, other) not in allowed:
                path, shown = _changed(field, value)
                raise SettingError(
                    f"{name(path)}: {shown!r} has no effect with "
                    f"{name(other)}={getattr(spec, other)}; leave it out, or set {name(other)} to "
                    f"{' or '.join(map(str, allowed))}"
                )


def conditions(info: FieldInfo) -> dict[str, list[Any]]:
    """The `only_with` of a field."""
    extra: Any = info.json_schema_extra
    return extra.get("only_with", {}) if isinstance(extra, dict) else {}


def _changed(field: str, value: Any) -> tuple[str, Any]:
    """The field and its value; of a nested spec, those of its first field that was changed."""
    if isinstance(value, Spec):
        for inner, info in type(value).model_fields.items():
            if (changed := getattr(value, inner)) != info.get_default(call_default_factory=True):
                return f"{field}.{inner}", changed
    return field, value


_TYPES = {"string": "text", "integer": "an integer", "number": "a number"}
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def expected(schema: Mapping[str, Any]) -> str:
    """What a JSON schema of one setting admits, in words.

    >>> expected({"anyOf": [{"type": "integer", "minimum": 2}, {"type": "null"}]})
    'an integer >= 2, or null'
    >>> expected({"type": "number", "exclusiveMinimum": 0, "maximum": 1})
    'a number > 0 and <= 1'
    """
    if "anyOf" in schema:
        return ", or ".join(expected(part) for part in schema["anyOf"])
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    if "pattern" in schema:
        return schema.get("form", f"text that matches {schema['pattern']}")
    kind = schema.get("type", "a value")
    if kind in ("boolean", "null"):
        return {"boolean": "true or false", "null": "null"}[kind]
    if {"minimum", "maximum"} <= schema.keys():
        bounds = f" from {schema['minimum']} to {schema['maximum']}"
    else:
        signs = [f" {sign} {schema[name]}" for name, sign in _BOUNDS.items() if name in schema]
        bounds = " and".join(signs)
    return _TYPES.get(kind, kind) + bounds
