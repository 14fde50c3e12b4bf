"""Shared by all command lines: errors that the user can correct are reported as one line."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

import click

from data.errors import EigenshapeError, is_out_of_memory, message, out_of_memory

_EXPECTED = (EigenshapeError, OSError)


@contextlib.contextmanager
def one_line_errors(*, debug: bool = False) -> Iterator[None]:
    """Report an `EigenshapeError`, `OSError` or a lack of memory as one line and exit status 1.

    In a process that `train.launch` started, the launcher reports it.

    Any other exception is a defect and keeps its traceback; with `debug`, all do.
    """
    try:
        yield
    except Exception as error:
        if debug or not (isinstance(error, _EXPECTED) or is_out_of_memory(error)):
            raise
        text = message(error) if isinstance(error, _EXPECTED) else out_of_memory(error)
        if "EIGENSHAPE_LAUNCHED" in os.environ and "LOCAL_RANK" in os.environ:
            from train.launch import hand_on

            hand_on(text)
            raise SystemExit(1) from error
        raise click.ClickException(text) from error


def help_text(docstring: str | None) -> str:
    """A docstring as the help text of a command: its examples and tables keep their lines."""
    return re.sub(r"\n\n(?=    |\|)", "\n\n\b\n", docstring or "")
