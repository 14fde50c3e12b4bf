"""Shared by all benchmarks: paired timing, facts of the machine, a table and a JSON file."""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

# BLAS threads spin while they wait for the next product, on cores that the other side needs.
REST_S = 0.2
PACKAGES = ("numpy", "scipy", "torch", "scikit-learn", "pyamg", "pymatting", "ncut-pytorch")


@dataclass(frozen=True)
class Paired:
    """Times of two implementations, run alternately in one process."""

    baseline_s: tuple[float, ...]
    ours_s: tuple[float, ...]
    baseline: Any
    ours: Any

    @property
    def ratio(self) -> float:
        """Median over the turns of baseline / ours: within a turn both run under the same load."""
        turns = zip(self.baseline_s, self.ours_s, strict=True)
        return statistics.median(b / o for b, o in turns)

    def times(self) -> dict[str, float]:
        """Medians in seconds, and the ratio, for a row of a table."""
        return {
            "baseline_s": statistics.median(self.baseline_s),
            "ours_s": statistics.median(self.ours_s),
            "ratio": self.ratio,
        }


def paired(
    baseline: Callable[[], Any],
    ours: Callable[[], Any],
    *,
    turns: int,
    repeats: int = 1,
    warm: bool = True,
) -> Paired:
    """Run both alternately, `turns` times each, after one uncounted turn of each if `warm`.

    A turn is the mean of `repeats` consecutive runs, for work that takes milliseconds. The last
    result of each is kept.
    """
    times: tuple[list[float], list[float]] = ([], [])
    results: list[Any] = [None, None]
    for turn in range(turns + warm):
        for i, run in enumerate((baseline, ours)):
            gc.collect()
            time.sleep(REST_S)
            started = time.perf_counter()
            for _ in range(repeats):
                results[i] = run()
            if turn >= warm:
                times[i].append((time.perf_counter() - started) / repeats)
    return Paired(tuple(times[0]), tuple(times[1]), *results)


def timed(run: Callable[[], Any], *, turns: int = 1) -> tuple[float, Any]:
    """Median time of `turns` runs, and the last result."""
    seconds, result = [], None
    for _ in range(turns):
        started = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), result


def peak_memory_mib() -> float:
    """Largest resident size of this process so far, in MiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def machine() -> dict[str, Any]:
    """CPU, cores, memory, load and the versions of the packages compared."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def report(name: str, rows: Sequence[Mapping[str, Any]], out: Path, **more: Any) -> None:
    """Print a table of the rows, and write them with the machine to `out/name.json`."""
    header = machine()
    print(f"# {name}")
    print("# " + ", ".join(f"{key} {value}" for key, value in header.items() if value is not None))
    print(table(rows))
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": header, "rows": list(rows), **more}, indent=1, default=float)
    (out / f"{name}.json").write_text(text + "\n")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as Markdown; the columns are the keys of all rows in order of appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = [columns, ["-" * width for width in widths], *cells]
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
