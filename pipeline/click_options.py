"""Command-line options generated from typed settings, so that the two cannot differ.

A field becomes the option `--name-of-the-field`, unless it is annotated with a `Flag`. Type, range,
choices, default and help text are those of the field.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import annotated_types
import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from data.sazs.options import Flag
from pipeline.commands import one_line_errors


def typed_options(**models: type[BaseModel]) -> Callable[[Callable], Callable]:
    """Add the options of typed settings to a command, which receives each as a checked argument."""

    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def wrapped(**values: Any) -> Any:
            with one_line_errors():
                settings = {
                    argument: model(**{name: values.pop(name) for name in model.model_fields})
                    for argument, model in models.items()
                }
            return command(**settings, **values)

        decorated: Callable = wrapped
        for model in reversed(models.values()):
            for name, field in reversed(model.model_fields.items()):
                decorated = _option(name, field)(decorated)
        return decorated

    return decorate


def _option(name: str, field: FieldInfo) -> Callable[[Callable], Callable]:
    flags = next((m.names for m in field.metadata if isinstance(m, Flag)), ())
    flags = flags or (f"--{name.replace('_', '-')}",)
    kind = _click_type(field)
    settings: dict[str, Any] = {"default": field.default, "help": field.description}
    if kind is bool:
        settings["is_flag"] = True
    else:
        settings |= {"type": kind, "show_default": field.default not in (None, "")}
    return click.option(*flags, name, **settings)


class FilledPath(click.Path):
    """A path that is not empty, as that of a shell variable that is not set."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == "":
            self.fail("expected a path, found an empty text", param, ctx)
        return super().convert(value, param, ctx)


def _click_type(field: FieldInfo) -> Any:
    kind: Any = field.annotation
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        return click.Choice(typing.get_args(kind))
    if kind is Path:
        return FilledPath(path_type=Path)
    if kind in (int, float):
        return _range(kind, field)
    if inspect.isclass(kind) and issubclass(kind, str | bool):
        return kind
    raise TypeError(f"no command-line option can be made of {kind}")


def _range(kind: type, field: FieldInfo) -> click.ParamType:
    bounds: dict[str, Any] = {}
    for limit in field.metadata:
        if isinstance(limit, annotated_types.Ge):
            bounds["min"] = limit.ge
        elif isinstance(limit, annotated_types.Gt):
            bounds |= {"min": limit.gt, "min_open": True}
        elif isinstance(limit, annotated_types.Le):
            bounds["max"] = limit.le
        elif isinstance(limit, annotated_types.Lt):
            bounds |= {"max": limit.lt, "max_open": True}
    return (click.IntRange if kind is int else click.FloatRange)(**bounds)
