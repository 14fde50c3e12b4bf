"""Small text files that carry a digest of themselves: JSON objects and CSV tables.

A damaged, cut or hand-edited file is refused by name instead of being read as something else.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data.errors import EigenshapeError
from data.files import atomic_path

_AGAIN = "delete it and run the same command again"


def write_json(path: str | Path, content: dict[str, Any], *, durable: bool = True) -> None:
    """Write `content` with its digest under the key "sha256"; `durable` as in `atomic_path`."""
    sealed = {**content, "sha256": _digest(content)}
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_text(json.dumps(sealed, indent=1, ensure_ascii=False), encoding="utf-8")


def read_json(
    path: str | Path,
    error: type[EigenshapeError],
    *,
    remedy: str = _AGAIN,
    unsealed: tuple[str, Any] | None = None,
) -> dict[str, Any]:
    """Read what `write_json` wrote, and return it without the digest.

    Parameters
    ----------
    error : type
        Raised, as `error(message)`, if the content is not what was written.
    unsealed : (key, value), optional
        An object with this entry was written before files carried a digest, and needs none.

    Raises
    ------
    error
        As described above; the message names the file and the remedy.
    OSError
        The file cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        content = json.loads(data)
        digest = content.pop("sha256", None)
        if digest is None and unsealed is not None and content.get(unsealed[0]) == unsealed[1]:
            return content
        intact = digest == _digest(content)
    except (ValueError, AttributeError, TypeError, RecursionError) as cause:
        raise error(f"{path}: not a JSON object ({cause}); {remedy}") from cause
    if not intact:
        raise error(f"{path}: its content does not match its digest (damaged or edited); {remedy}")
    return content


def _digest(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def write_table(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV table; its last line counts the rows and holds the digest of all before it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007 - the last one is used
        writer.writerow(row)
    body = text.getvalue().encode("utf-8", "surrogateescape")
    with atomic_path(path) as temporary:
        temporary.write_bytes(body + _trailer(body, count))


def read_table(
    path: str | Path, header: Sequence[str], error: type[EigenshapeError]
) -> list[dict[str, str]]:
    """Read what `write_table` wrote.

    Raises
    ------
    error
        The content is not what was written, or has other columns than `header`.
    OSError
        The file cannot be read.
    """
    data = Path(path).read_bytes()
    end = data.rstrip(b"\n").rfind(b"\n") + 1
    body = data[:end]
    try:
        text = body.decode("utf-8", "surrogateescape")
        found, *rows = list(csv.reader(io.StringIO(text, newline=""), strict=True)) or [[]]
    except csv.Error as cause:
        raise error(f"{path}: not a table ({cause}); {_AGAIN}") from cause
    if data[end:] != _trailer(body, len(rows)):
        raise error(
            f"{path}: expected a last line with the number and digest of the rows above, found "
            f"{data[end:][:80]!r} after {len(rows)} rows (cut, damaged or edited); {_AGAIN}"
        )
    if found != list(header) or any(len(row) != len(header) for row in rows):
        raise error(f"{path}: expected the columns {', '.join(header)}, found {found}; {_AGAIN}")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _trailer(body: bytes, count: int) -> bytes:
    return f"# {count} rows, sha256 {hashlib.sha256(body).hexdigest()}\n".encode()
