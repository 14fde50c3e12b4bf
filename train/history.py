"""What a training says of itself while it runs: rows on disk, TensorBoard, a picture at the end.

`history.jsonl` has one JSON object a row: `step` and the figures of that step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.files import atomic_path

FILE = "history.jsonl"
CURVES = "curves.png"


def read(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of a training's history, oldest first; a half-written last row is left out."""
    path = Path(folder) / FILE
    if not path.is_file():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


class History:
    """Writes the rows of one training; does nothing where `enabled` is false."""

    def __init__(self, folder: Path, *, enabled: bool = True) -> None:
        self.folder, self.enabled = folder, enabled
        self._file: Any = None
        self._board: Any = None
        self._start = 0

    def cut(self, step: int) -> None:
        """Forget rows after `step`: a resumed training writes them again."""
        self._start = step
        if self.enabled:
            rows = [row for row in read(self.folder) if row["step"] <= step]
            with atomic_path(self.folder / FILE) as temporary:
                temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """One row of figures at `step`."""
        if not self.enabled:
            return
        if self._file is None:
            self._open()
        self._file.write(json.dumps({"step": step, **figures}) + "\n")
        for name, value in figures.items():
            self._board.add_scalar(name, value, step)

    def _open(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder.mkdir(parents=True, exist_ok=True)
        mode = "a" if self._start else "w"
        self._file = (self.folder / FILE).open(mode, buffering=1)
        self._board = SummaryWriter(self.folder / "tensorboard", purge_step=self._start + 1)

    def close(self) -> None:
        """Flush everything and draw the curves."""
        if self._file is not None:
            self._file.close()
            self._board.close()
            self._file = self._board = None
            draw(read(self.folder), self.folder / CURVES)


def draw(rows: list[dict[str, Any]], path: str | Path) -> None:
    """Learning curves as a PNG: one panel per figure, steps along the axis."""
    from matplotlib.figure import Figure

    names = [n for n in dict.fromkeys(key for row in rows for key in row) if n != "step"]
    if not names:
        return
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * lines), layout="constrained")
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(lines, columns, number)
        points = [(row["step"], row[name]) for row in rows if name in row]
        steps, values = zip(*points, strict=True)
        axes.plot(
            steps, values, linewidth=1, marker="o" if len(points) < 30 else None, markersize=3
        )
        axes.set(title=name, xlabel="step")
        axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
