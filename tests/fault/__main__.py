"""Inject faults and count what comes of them.

    python -m tests.fault damage --budget 10m --count 100000

Only processes that a command started are ended by it. Exit status 1 where a promise is broken.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import time
from typing import Any

import click

from pipeline.commands import help_text
from tests.fault.table import formatted

COUNT = {"kill": 500, "damage": 100_000, "disk": 200, "hostile": 200, "acts": 200}
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType):
    """Seconds: "90", "90s", "10m" or "1h"."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", value)
        if match is None:
            self.fail(f"{value!r} is no duration, such as 90s, 10m or 1h", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


@click.command(help=help_text(__doc__), context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("fault", type=click.Choice(list(COUNT)))
@click.option("--budget", type=Duration(), default="10m", show_default=True, help="Time at most.")
@click.option("--count", type=click.IntRange(min=1), help="Cases at most.")
@click.option("--seed", default=0, show_default=True, help="Decides the cases.")
@click.option("--processes", default=2, show_default=True, help="Cases at a time.")
@click.option("--only", type=click.Choice(("stages", "training")), help="Of kill and disk.")
def main(
    fault: str, budget: float, count: int | None, seed: int, processes: int, only: str | None
) -> None:
    logging.disable(logging.WARNING)
    os.environ |= {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    started = time.monotonic()
    chosen = {}
    if only:
        chosen["names"] = getattr(importlib.import_module("tests.fault.scenarios"), only.upper())
    run = importlib.import_module(f"tests.fault.{fault}").run
    rows = run(count or COUNT[fault], budget, seed, processes=processes, **chosen)
    click.echo(formatted(rows))
    click.echo(f"{time.monotonic() - started:.0f} s, seed {seed}")
    sys.exit(1 if any(row.violations for row in rows) else 0)


if __name__ == "__main__":
    main()
