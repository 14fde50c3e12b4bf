"""Command-line options made from the configuration's keys, so that neither can forget one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pipeline.config import KEYS, Config, describe, is_flag, resolve


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
    name = "--" + key.replace("_", "-")
    text = f"{KEYS[key].schema['description']}  [{describe(key)}]"
    if is_flag(key):
        return click.option(f"{name}/--no-{name[2:]}", key, default=None, help=text)
    # Text, which `resolve` reads as it reads that of a file: `null` is none, 1e-5 a number.
    return click.option(name, key, default=None, help=text)


__all__ = ["Config", "config_options"]
