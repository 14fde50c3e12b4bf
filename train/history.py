"""The record of a training run: rows on disk, TensorBoard files, learning curves.

`history.jsonl` has one JSON object per line: `step`, the figures of that step, null for a figure
that is not finite, and `crc32` of the rest of the line.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.files import atomic_path, without_nan
from train.curves import draw

FILE = "history.jsonl"
DAMAGED = "history.damaged.jsonl"
CURVES = "curves.png"
_CRC = "crc32"

log = logging.getLogger(__name__)


def read(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of a run's history, oldest first; lines that are no rows are left out."""
    return [row for row in _rows(Path(folder) / FILE) if row is not None]


def _rows(path: Path) -> list[dict[str, Any] | None]:
    """One entry per line, None for a damaged one; a last line without end was being written."""
    if not path.is_file():
        return []
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    rows = [_row(line) for line in lines if line.endswith("\n")]
    latest, written = 0, set()
    for index, (row, line) in enumerate(zip(rows, lines, strict=False)):
        if row is None:
            continue
        if row["step"] < latest or line in written:  # a block of the file is there twice, or moved
            rows[index] = None
        latest = max(latest, row["step"])
        written.add(line)
    return rows


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or row.pop(_CRC, None) != _crc32(row):
        return None
    return row if type(row.get("step")) is int else None


class History:
    """Writes the history of one run; does nothing where `enabled` is false."""

    def __init__(self, folder: Path, *, enabled: bool = True) -> None:
        self.folder, self.enabled = folder, enabled
        self._file: Any = None
        self._board: Any = None
        self._start = 0

    def cut(self, step: int) -> None:
        """Drop the rows after `step`, which a resumed run writes again.

        A damaged history is set aside as `history.damaged.jsonl`, and its whole rows are kept.
        """
        self._start = step
        if not self.enabled:
            return
        path = self.folder / FILE
        rows = _rows(path)
        if None in rows:
            path.replace(self.folder / DAMAGED)
            log.warning(
                "%s: %d of %d lines are damaged; it is set aside as %s, whole lines are kept",
                *(path, rows.count(None), len(rows), DAMAGED),
            )
        kept = [row for row in rows if row is not None and row["step"] <= step]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(_line(row) for row in kept))

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Add one row of figures at `step`.

        Raises
        ------
        OSError
            The disk is full or the folder cannot be written; names the file.
        """
        if not self.enabled:
            return
        try:
            if self._file is None:
                self._open()
            self._file.write(_line({"step": step, **figures}))
        except OSError as error:
            raise OSError(
                error.errno, f"cannot write {self.folder / FILE}: {error.strerror}"
            ) from error
        self._add_to_board(step, figures)

    def _open(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder.mkdir(parents=True, exist_ok=True)
        mode = "a" if self._start else "w"
        self._file = (self.folder / FILE).open(mode, buffering=1)
        self._board = SummaryWriter(self.folder / "tensorboard", purge_step=self._start + 1)

    def _add_to_board(self, step: int, figures: Mapping[str, float]) -> None:
        """TensorBoard's files are a copy for the eye: a run does not end for them."""
        try:
            for name, value in figures.items() if self._board else ():
                self._board.add_scalar(name, value, step)
        except Exception as error:  # its writer thread passes on any error
            log.warning("TensorBoard files end at step %d: %s", step, error)
            self._board = None

    def close(self, *, draws: bool = True) -> None:
        """Flush everything; with `draws`, draw the learning curves where they are out of date."""
        stale = self._file is not None or not (self.folder / CURVES).is_file()
        try:
            if self._file is not None:
                self._file.close()
                if self._board:
                    self._board.close()
            if self.enabled and draws and stale:
                draw(read(self.folder), self.folder / CURVES)
        except OSError as error:
            log.warning("%s: %s", self.folder, error)
        finally:
            self._file = self._board = None


def _line(row: Mapping[str, Any]) -> str:
    plain = without_nan(row)
    return json.dumps({**plain, _CRC: _crc32(plain)}, allow_nan=False) + "\n"


def _crc32(row: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(row).encode()):08x}"
