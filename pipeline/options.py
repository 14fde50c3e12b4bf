"""Command-line options that the stages share; those of configuration keys are generated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from data.datasets import DATASETS
from data.parallel import check_processes
from pipeline.config import KEYS, describe, is_flag, resolve

dataset_option = click.option(
    "--dataset", type=click.Choice(list(DATASETS)), required=True, help="Name of the data set."
)


def _workers(context: click.Context, parameter: click.Parameter, value: int) -> int:
    check_processes(value, "--workers")
    return value


workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    callback=_workers,
    help="Processes on this machine.",
)


def config_options(*keys: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add an option per key; the command receives them resolved, as the argument `config`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def with_config(**arguments: Any) -> None:
            values = {key: arguments.pop(key) for key in keys}
            config = resolve({key: value for key, value in values.items() if value is not None})
            command(config=config, **arguments)

        # click reads the help text and the options from the outer function.
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
    # As text, which `resolve` parses like the configuration file: `null` is None, 1e-5 a number.
    return click.option(name, key, default=None, help=text)
