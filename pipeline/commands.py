"""Shared by all command lines: errors that the user can correct are reported as one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click

from data.errors import EigenshapeError


@contextlib.contextmanager
def one_line_errors(*, debug: bool = False) -> Iterator[None]:
    """Report an `EigenshapeError` or `OSError` as one line and exit status 1.

    Any other exception is a defect and keeps its traceback; with `debug`, all do.
    """
    try:
        yield
    except (EigenshapeError, OSError) as error:
        if debug:
            raise
        raise click.ClickException(str(error)) from error
