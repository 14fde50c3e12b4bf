"""Shared by all command lines: errors that the user can correct are reported as one line."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

import click

from data.errors import EigenshapeError, message


@contextlib.contextmanager
def one_line_errors(*, debug: bool = False) -> Iterator[None]:
    """Report an `EigenshapeError` or `OSError` as one line and exit status 1.

    In a process that `train.launch` started, the launcher reports it.

    Any other exception is a defect and keeps its traceback; with `debug`, all do.
    """
    try:
        yield
    except (EigenshapeError, OSError) as error:
        if debug:
            raise
        if "EIGENSHAPE_LAUNCHED" in os.environ and "LOCAL_RANK" in os.environ:
            from train.launch import hand_on

            hand_on(error)
            raise SystemExit(1) from error
        raise click.ClickException(message(error)) from error


def help_text(docstring: str | None) -> str:
    """A docstring as the help text of a command: its examples and tables keep their lines."""
    return re.sub(r"\n\n(?=    |\|)", "\n\n\b\n", docstring or "")
