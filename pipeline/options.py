"""Command-line options made from the configuration's schema, so that neither can forget a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pipeline.config import Config, describe, properties, resolve

_TYPES = {"string": str, "integer": int, "number": float}


def config_options(*keys: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add an option for each key; the command gets them resolved, as the argument `config`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def with_config(**arguments: Any) -> None:
            given = {key: arguments.pop(key) for key in keys}
            config = resolve({key: value for key, value in given.items() if value is not None})
            command(config=config, **arguments)

        # click reads the help text and the options of the function that it is given.
        with_config.__doc__ = command.__doc__
        with_config.__name__ = command.__name__
        with_config.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
        for key in reversed(keys):
            with_config = _option(key)(with_config)
        return with_config

    return decorate


def _option(key: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    entry = properties()[key]
    kinds = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
    name = "--" + key.replace("_", "-")
    help_text = f"{' '.join(entry['description'].split())}  [{describe(key)}]"
    if "boolean" in kinds:
        return click.option(f"{name}/--no-{name[2:]}", key, default=None, help=help_text)
    kind: Any = click.Choice(entry["enum"]) if "enum" in entry else _TYPES[kinds[0]]
    return click.option(name, key, type=kind, default=None, help=help_text)


__all__ = ["Config", "config_options"]
