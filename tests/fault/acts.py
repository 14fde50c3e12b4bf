"""Ordinary mistakes: command lines as a new user mistypes them, on files that are not as meant.

Each is refused with an exit status other than 0 and one line that names what is wrong; every file
that was there stays as it was, and nothing temporary is left.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import os
import shutil
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import runlock
from data.lifetime import end_with
from tests.fault import material, watchdog
from tests.fault.mistakes import ACTS, PHOTOS, SAZS, ZEGFORMER, Act
from tests.fault.rights import without_override
from tests.fault.scenarios import Bench, all_of
from tests.fault.table import Row

LIMIT = 180.0
_SCENARIOS = {SAZS: "SAZS training", ZEGFORMER: "ZegFormer training"}
_COMMANDS = {
    "sazs.py": ("sazs", "main"),
    "train_net.py": ("train_net", "main"),
    "demo.py": ("demo.demo", "main"),
    "web.py": ("demo.web", "main"),
    "pipeline": ("pipeline.cli", "main"),
}


@dataclass(frozen=True)
class _Outcome:
    """Exit status and all that a command printed."""

    status: int
    text: str


class Acts:
    """Make one mistake in a folder of its own, and judge what came of it."""

    def __init__(self, root: Path) -> None:
        for module, _ in _COMMANDS.values():  # once here, not in each process
            importlib.import_module(module)
        self.root = root
        self._made: dict[str, Path] = {}

    def __call__(self, number: int) -> tuple[str, str]:
        act = ACTS[number % len(ACTS)]
        folder = self.root / "act"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._start(act.needs), folder, symlinks=True)
        act.prepare(folder)
        before = _digests(folder)
        outcome = _run(act, folder)
        count, example = _judged(act, outcome, before, _digests(folder))
        return count, f"{act.name}: {example.replace(str(folder), '~')}"

    def _start(self, needs: str) -> Path:
        """The folder that acts of a kind start from; made once."""
        if needs not in self._made:
            folder = self.root / needs
            folder.mkdir()
            if needs in _SCENARIOS:
                bench = Bench(folder, scenarios := all_of((_SCENARIOS[needs],)))
                bench.undisturbed(scenarios[0])
                folder = bench.folder
            elif needs == PHOTOS:
                with contextlib.chdir(folder):
                    material.write_photos(Path("photos"), 3)
                    material.make_results(Path("photos"), Path("results"))
                    material.make_discovery(Path("photos"), Path("results"))
            self._made[needs] = folder
        return self._made[needs]


def _run(act: Act, folder: Path) -> _Outcome:
    """Run the command in a process of its own."""
    printed, parent = folder.parent / "printed", os.getpid()
    process = os.fork()
    if not process:
        end_with(parent)
        _work(act, folder, printed)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return _Outcome(status, printed.read_text(errors="replace"))


def _work(act: Act, folder: Path, printed: Path) -> None:
    """Run the command with its output in a file; does not return."""
    file = os.open(printed, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(folder)
    program, *words = act.words
    module, name = _COMMANDS[program]
    sys.argv = [program, *words]
    status: Any = 0
    try:
        with without_override():
            getattr(importlib.import_module(module), name)()
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 70
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    logging.shutdown()
    os._exit(status if isinstance(status, int) else 1)


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != runlock.FILE
    }


def _judged(
    act: Act, outcome: _Outcome, before: dict[str, str], after: dict[str, str]
) -> tuple[str, str]:
    if outcome.status == 0:
        return "faked", f"was accepted: {outcome.text[-200:]}"
    if changed := [name for name, digest in before.items() if after.get(name) != digest]:
        return "lost", f"{changed[:3]} changed"
    if dead := [name for name in after if Path(name).name.startswith(".tmp-")]:
        return "leftovers", f"{dead[:3]}"
    errors = [line for line in outcome.text.splitlines() if line.startswith("Error: ")]
    if "Traceback" in outcome.text or len(errors) != 1 or act.says not in errors[0]:
        return "obscure", f"expected one line with {act.says!r}, found {outcome.text[-300:]!r}"
    return "", ""


def run(count: int, budget: float, seed: int, *, processes: int = 1) -> list[Row]:
    """Make each mistake once, up to `count` of them, as far as `budget` (seconds) allows."""
    names = [act.name for act in ACTS]
    count = min(count, len(ACTS))
    return watchdog.run_in_folders(names, Acts, count, budget, LIMIT, processes=processes)
