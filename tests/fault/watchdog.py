"""Run numbered cases in forked processes; one that hangs or crashes costs its process alone."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from tests.fault.table import COUNTS, SHOWN, Row

Case = Callable[[int], tuple[str, str]]
"""From the number of a case to the count that it adds to, "" for none, and an example."""

_CONTEXT = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Cases:
    """Cases 0, 1, ... of which number n belongs to row n modulo the number of rows.

    Attributes
    ----------
    prepare : callable
        Called in each process, with its number, before its first case; returns the case.
    count : int
        Cases at most.
    deadline : float
        Of `time.monotonic`: no case starts later.
    limit : float
        Seconds after which a case hangs.
    notes : Path
        Folder for the examples of violations.
    """

    prepare: Callable[[int], Case]
    count: int
    deadline: float
    limit: float
    notes: Path


@dataclass
class _Worker:
    """A process, the case that it is at, and since when."""

    process: ForkProcess
    current: Any
    case: int = -1
    since: float = 0.0


def run(rows: Sequence[Row], cases: Cases, *, processes: int) -> None:
    """Run the cases and enter what happened into `rows`."""
    cases.notes.mkdir(parents=True, exist_ok=True)
    length = len(rows) * len(COUNTS)
    tallies = [_CONTEXT.Array(ctypes.c_longlong, length, lock=False) for _ in range(processes)]
    workers = {
        slot: _start(cases, slot, range(slot, cases.count, processes), tallies[slot])
        for slot in range(processes)
    }
    while workers:
        time.sleep(0.05)
        for slot, worker in list(workers.items()):
            end = _end(worker, cases.limit)
            if end is None:
                continue
            del workers[slot]
            if end and worker.case >= 0:
                row = rows[worker.case % len(rows)]
                row.tried += 1
                row.note(end, f"case {worker.case}, process ended with {worker.process.exitcode}")
                rest = range(worker.case + processes, cases.count, processes)
                workers[slot] = _start(cases, slot, rest, tallies[slot])
            elif end:
                raise RuntimeError(f"worker {slot} could not be prepared")
    _collect(rows, tallies, cases.notes)


def run_in_folders(
    names: Sequence[str],
    prepare: Callable[[Path], Case],
    count: int,
    budget: float,
    limit: float,
    *,
    processes: int,
) -> list[Row]:
    """Run up to `count` cases, as far as `budget` (seconds) allows, each process in its folder."""
    rows = [Row(name) for name in names]
    with tempfile.TemporaryDirectory(prefix="fault-") as name:
        root = Path(name)
        cases = Cases(
            prepare=lambda slot: prepare(Path(tempfile.mkdtemp(dir=root))),
            count=count,
            deadline=time.monotonic() + budget,
            limit=limit,
            notes=root / "notes",
        )
        run(rows, cases, processes=processes)
    return rows


def _start(cases: Cases, slot: int, span: range, tally: Any) -> _Worker:
    current = _CONTEXT.Value(ctypes.c_longlong, -1, lock=False)
    process = _CONTEXT.Process(target=_work, args=(cases, slot, span, tally, current), daemon=True)
    process.start()
    return _Worker(process, current, since=time.monotonic())


def _work(cases: Cases, slot: int, span: range, tally: Any, current: Any) -> None:
    try:
        run_case = cases.prepare(slot)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    rows = len(tally) // len(COUNTS)
    for number in span:
        if time.monotonic() > cases.deadline:
            break
        current.value = number
        count, example = run_case(number)
        place = number % rows * len(COUNTS)
        tally[place + COUNTS.index("tried")] += 1
        if count:
            place += COUNTS.index(count)
            tally[place] += 1
            if tally[place] <= SHOWN:
                (cases.notes / f"{number:09d}").write_text(f"{count}: {example}")
    os._exit(0)


def _end(worker: _Worker, limit: float) -> str | None:
    """None while a worker runs, "" when it ended, else the count that its last case adds to."""
    alive = worker.process.is_alive()
    if worker.current.value != worker.case:
        worker.case, worker.since = worker.current.value, time.monotonic()
    if not alive:
        return "obscure" if worker.process.exitcode else ""
    if time.monotonic() - worker.since <= limit:
        return None
    worker.process.kill()
    worker.process.join()
    return "hangs"


def _collect(rows: Sequence[Row], tallies: Sequence[Any], notes: Path) -> None:
    for number, row in enumerate(rows):
        for column, name in enumerate(COUNTS):
            place = number * len(COUNTS) + column
            found = sum(tally[place] for tally in tallies)
            setattr(row, name, getattr(row, name) + found)
    for note in sorted(notes.iterdir()):
        row = rows[int(note.name) % len(rows)]
        if len(row.examples) < SHOWN:
            row.examples.append(note.read_text())
