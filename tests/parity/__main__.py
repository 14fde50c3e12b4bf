"""`python -m tests.parity DIR`: every golden comparison over a folder, one line per case.

Seeds, images, crops, sizes and class ids come from the files. Files and arrays that the folder does
not hold are named and skipped.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time
from pathlib import Path
from types import ModuleType

import click

from pipeline.commands import help_text
from tests import parity
from tests.parity.case import Case


def families() -> dict[str, ModuleType]:
    """Each family's module, with `FILES` (the golden files it reads) and `cases`, by its name."""
    modules = (
        importlib.import_module(f"tests.parity.{found.name}")
        for found in pkgutil.iter_modules(parity.__path__)
        if not found.name.startswith("_")
    )
    return {m.__name__.rsplit(".", 1)[-1]: m for m in modules if hasattr(m, "cases")}


@click.command(help=help_text(__doc__))
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--family", "chosen", multiple=True, help="Only this family; may be repeated.")
def main(folder: Path, chosen: tuple[str, ...]) -> None:
    started = time.perf_counter()
    results: list[Case] = []
    known = families()
    for name in chosen:
        if name not in known:
            raise click.BadParameter(
                f"{name!r} is not one of {', '.join(known)}", param_hint="--family"
            )
    for name in chosen or known:
        for file in known[name].FILES:
            if not (folder / file).is_file():
                click.echo(_line(Case.missing(file)))
        for case in known[name].cases(folder):
            results.append(case)
            click.echo(_line(case))
    compared = [case for case in results if not case.absent]
    failed = sum(not case.passed for case in compared)
    click.echo(
        f"{len(compared) - failed} passed, {failed} failed of {len(compared)} cases "
        f"in {time.perf_counter() - started:.0f} s"
    )
    if not compared:
        click.echo(
            f"{folder}: no golden file of a known family (*.npz with their *_keys.json)", err=True
        )
    sys.exit(0 if compared and not failed else 1)


def _line(case: Case) -> str:
    if case.absent:
        return f"{case.name:<58} not in the folder, skipped"
    verdict = "pass" if case.passed else "FAIL"
    return f"{case.name:<58} {case.error:10.3e}  allowed {case.tolerance:8.1e}  {verdict}"


if __name__ == "__main__":
    main()
