"""Disks that are full, folders that may not be written, inputs that vanish.

The disturbed command ends with one line that names a file, leaves what was there as it was, and the
same command finishes afterwards as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from data.errors import EigenshapeError
from tests.fault import watchdog
from tests.fault.rights import without_override
from tests.fault.scenarios import STAGES, TRAINING, Bench, Scenario, all_of, fingerprint
from tests.fault.table import Row

LIMIT = 600.0
ERRORS = {"OSError", *(kind.__name__ for kind in EigenshapeError.__subclasses__())}
ERRORS |= {"ClickException"} | {kind.__name__ for kind in OSError.__subclasses__()}


def _full(folder: Path, rng: random.Random) -> Callable[[], None]:
    """No file may grow beyond a limit, as on a disk that runs full."""
    limit = int(10 ** rng.uniform(1, 5))

    def before() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    return before


def _read_only(folder: Path, rng: random.Random) -> Callable[[], None]:
    """The folders of results may not be written."""

    def before() -> None:
        for path in (folder, *folder.rglob("*")):
            if path.is_dir():
                path.chmod(0o555)
        without_override().__enter__()  # for as long as this process lives

    return before


def _vanished(folder: Path, rng: random.Random) -> Callable[[], None]:
    """One file that the command may need is gone."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    gone = rng.choice(files)
    content, times = gone.read_bytes(), gone.stat()
    gone.unlink()

    def back() -> None:
        gone.parent.mkdir(parents=True, exist_ok=True)
        gone.write_bytes(content)
        os.utime(gone, ns=(times.st_atime_ns, times.st_mtime_ns))

    _back.append(back)
    return lambda: None


_back: list[Callable[[], object]] = []


@contextlib.contextmanager
def _mended(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        for path in (folder, *folder.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        while _back:
            _back.pop()()


FAULTS = {"full disk": _full, "read-only folder": _read_only, "vanished input": _vanished}


class Disks:
    """Disturb one run of a scenario, mend the fault, and run it again."""

    def __init__(self, root: Path, seed: int, names: tuple[str, ...]) -> None:
        self.bench, self.seed = Bench(root, all_of(names)), seed

    def __call__(self, number: int) -> tuple[str, str]:
        scenarios = self.bench.scenarios
        scenario = scenarios[number % len(scenarios)]
        fault = list(FAULTS)[number // len(scenarios) % len(FAULTS)]
        undisturbed = self.bench.undisturbed(scenario)
        self.bench.reset(scenario)
        with _mended(self.bench.folder):
            rng = random.Random(f"{self.seed}-{number}")
            before = FAULTS[fault](self.bench.folder, rng)
            status = self.bench.wait(self.bench.start(scenario, before))
        if complaint := self._complaint(scenario, status):
            return "obscure", f"case {number}, {fault}: {complaint}"
        if fault == "vanished input" and scenario.name in TRAINING and status == 0:
            return "", ""  # images that cannot be read are left out of training, and reported
        between = fingerprint(self.bench.folder)
        if self.bench.wait(self.bench.start(scenario)):
            return "lost", f"case {number}, {fault}: the same command failed: {self.bench.error}"
        count, example = undisturbed.judge(between, fingerprint(self.bench.folder))
        if count == "faked" and fault == "vanished input":
            return "", ""  # what was made without the input, and made again with it
        return count, f"case {number}, {fault}: {example}"

    def _complaint(self, scenario: Scenario, status: int) -> str:
        if status == 0:
            return ""
        kind, message = self.bench.error
        if status < 0 or kind not in ERRORS:
            return f"ended with {status}, {kind}: {message}"[:300]
        if "\n" in message or str(self.bench.folder) not in message:
            return f"does not name a file in one line: {kind}: {message}"[:300]
        return ""


def run(
    count: int,
    budget: float,
    seed: int,
    *,
    processes: int = 2,
    names: tuple[str, ...] = (*STAGES, *TRAINING),
) -> list[Row]:
    """Disturb up to `count` runs, as far as `budget` (seconds) allows."""

    def prepare(folder: Path) -> Disks:
        return Disks(folder, seed, names)

    return watchdog.run_in_folders(names, prepare, count, budget, LIMIT, processes=processes)
