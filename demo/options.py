"""Options that the two demos share: the network to open, and the words."""

from __future__ import annotations

import functools
import logging
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import click

from data.errors import SettingError
from data.text.vocabulary import Vocabulary
from eval.class_names import split
from eval.model import DEFAULT_CONFIG, Model, Options
from eval.trained import open_model
from pipeline.commands import one_line_errors

log = logging.getLogger("demo")

HELP = {"help_option_names": ["-h", "--help"]}


class DemoCommand(click.Command):
    """A command whose `--input` takes several values, and whose `--opts` takes the rest.

    The published command lines have both; an option of click takes one value each time.
    """

    @staticmethod
    def expand(words: Sequence[str]) -> list[str]:
        """`--input a b` as `--input a --input b`, and all that follows `--opts` likewise."""
        first, last = list(words), []
        if "--opts" in first:
            start = first.index("--opts")
            last = [part for word in first[start + 1 :] for part in ("--opts", word)]
            del first[start:]
        result: list[str] = []
        option = ""
        for word in first:
            if word.startswith("-"):
                option = word
            elif option == "--input" and result[-1] != "--input":
                result.append("--input")
            if option != "--input" and result[-1:] == ["--input"]:
                break
            result.append(word)
        if result[-1:] == ["--input"]:
            raise click.BadOptionUsage(
                "--input", "--input needs one or more values; a name that starts with - as ./-name"
            )
        return result + last

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self.expand(args))


def _number(context: click.Context, parameter: click.Parameter, value: float) -> float:
    if math.isnan(value):
        raise click.BadParameter("expected a number, found nan")
    return value


_OPTIONS = (
    click.option(
        "--checkpoint",
        help="ZegFormer or SAZS checkpoint. Default: MODEL.WEIGHTS, otherwise the bundled network.",
    ),
    click.option(
        "--config-file",
        "config",
        help=f"ZegFormer configuration. Default: that of the checkpoint, otherwise"
        f" {DEFAULT_CONFIG}.",
    ),
    click.option("--classes", help='Names to look for: "cat, sofa", or a file (.txt, .json).'),
    click.option(
        "--seen",
        help="Those of --classes that had masks in training. Default: matched by name.",
    ),
    click.option("--embeddings", help="Table of text embeddings (.npy), used instead of CLIP."),
    click.option("--arch", help="SAZS: network, if the checkpoint does not record it."),
    click.option(
        "--input-side",
        type=click.IntRange(min=0),
        default=512,
        show_default=True,
        help="SAZS: side in pixels of the square that images are resized to; 0 keeps their size.",
    ),
    click.option(
        "--confidence-threshold",
        "threshold",
        type=float,
        default=-float("inf"),
        callback=_number,
        help="Leave pixels with a lower score unnamed.",
    ),
    click.option("--debug", is_flag=True, help="Show the traceback of an error."),
    click.option(
        "--opts",
        "overrides",
        multiple=True,
        metavar="KEY VALUE ...",
        help="Override settings of ZegFormer's configuration; must come last.",
    ),
)


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name a network; the command receives `options` and `seen`.

    An error that the user can correct is printed as one line, with `--debug` as a traceback.
    """

    @functools.wraps(command)
    def with_options(*, debug: bool, **arguments: Any) -> None:
        options = Options(**{field.name: arguments.pop(field.name) for field in fields(Options)})
        _log_to_terminal()
        with one_line_errors(debug=debug):
            command(options=options, **arguments)

    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return with_options


def open_words(options: Options, seen: str | None) -> tuple[Model, Vocabulary]:
    """The network that the options name, and the classes to look for.

    Raises
    ------
    SettingError
        `seen` was given for SAZS, where it has no effect; also as `open_model`.
    """
    model = open_model(options)
    if seen is not None and model.trained is None:
        raise SettingError(
            "--seen: has an effect with ZegFormer only, found a SAZS checkpoint; leave it out"
        )
    if options.classes is None:
        return model, model.words
    return model, model.vocabulary(model.words.names, None if seen is None else split(seen))


def _log_to_terminal() -> None:
    """Log to the terminal, without the chatter of other libraries."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("PIL", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
