"""`python -m tests.parity DIR`: every golden comparison over a folder, one line a case."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from tests import parity
from tests.parity.case import Case


def families() -> dict[str, Callable[[Path], Iterator[Case]]]:
    """Name of each family -> its `cases` function."""
    modules = (
        importlib.import_module(f"tests.parity.{found.name}")
        for found in pkgutil.iter_modules(parity.__path__)
        if not found.name.startswith("_")
    )
    return {m.__name__.rsplit(".", 1)[-1]: m.cases for m in modules if hasattr(m, "cases")}


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--family", "chosen", multiple=True, help="Only this family; may be repeated.")
def main(folder: Path, chosen: tuple[str, ...]) -> None:
    started, results = time.perf_counter(), []
    known = families()
    for name in chosen:
        if name not in known:
            raise click.BadParameter(
                f"{name!r} is not one of {', '.join(known)}", param_hint="--family"
            )
    for name in chosen or known:
        for case in known[name](folder):
            results.append(case)
            verdict = "pass" if case.passed else "FAIL"
            click.echo(
                f"{case.name:<58} {case.error:10.3e}  allowed {case.tolerance:8.1e}  {verdict}"
            )
    failed = sum(not case.passed for case in results)
    seconds = time.perf_counter() - started
    passed = len(results) - failed
    click.echo(f"{passed} passed, {failed} failed of {len(results)} cases in {seconds:.0f} s")
    if not results:
        click.echo(
            f"{folder}: no golden file of a known family (*.npz with their *_keys.json)", err=True
        )
    sys.exit(0 if results and not failed else 1)


if __name__ == "__main__":
    main()
