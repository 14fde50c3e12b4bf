"""What the web page's server refuses, and the files that it keeps.

The server listens on this machine alone, but any page that a browser has open may send it requests.
So a request must name a loopback address as its host (a name of somebody else's that resolves to
127.0.0.1 is "DNS rebinding"), and come from the page itself where the browser says where from.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MOST_BYTES = 64 << 20
"""Largest request: a photo, and what surrounds it."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Guard:
    """Refuses requests from other hosts and pages, and bodies of more than `MOST_BYTES`."""

    def __init__(self, app: Any, most_bytes: int = MOST_BYTES) -> None:
        self.app, self.most_bytes = app, most_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = foreign(headers) or self._too_large(headers)
        if not refusal:
            await self.app(scope, self._counted(receive), send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})
        else:
            status, reason = refusal
            text = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": status, "headers": text})
            await send({"type": "http.response.body", "body": f"{reason}\n".encode()})

    def _too_large(self, headers: dict[bytes, str]) -> tuple[int, str] | None:
        length = headers.get(b"content-length", "0")
        if length.isdecimal() and int(length) <= self.most_bytes:
            return None
        return 413, f"the request has {length[:20]} bytes, the limit is {self.most_bytes:,}"

    def _counted(self, receive: Any) -> Any:
        """`receive` that hangs up on a body without a stated length that grows too large."""
        received = 0

        async def counted() -> Any:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message if received <= self.most_bytes else {"type": "http.disconnect"}

        return counted


def foreign(headers: dict[bytes, str]) -> tuple[int, str] | None:
    """Status and reason if a request is not of this machine and this page, else None."""
    host = headers.get(b"host", "")
    if _hostname(f"//{host}") not in LOOPBACK:
        return 403, f"expected the host {' or '.join(LOOPBACK)}, found {host[:100]!r}"
    origin = headers.get(b"origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return 403, f"expected a request of this page, found one of {origin[:100]!r}"
    if headers.get(b"sec-fetch-site", "none") not in ("same-origin", "none"):
        return 403, "expected a request of this page, found one of another"
    return None


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for uploads and answers, removed when the block ends, by SIGTERM too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="eigenshape-web-", ignore_cleanup_errors=True) as name:
        yield Path(name)


class Uploads:
    """The last upload of each browser tab, and the answer to it; those before are removed.

    Attributes
    ----------
    folder : path
        Where all of them are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last: dict[str, Path] = {}
        self._answers: dict[str, Path] = {}

    def replaced(self, tab: str, path: str | None) -> None:
        """Note the upload that a tab's request is about."""
        new = Path(path) if path else None
        last = self._last.pop(tab, None)
        if last is not None and last != new and last not in self._last.values():
            last.unlink(missing_ok=True)
        if new is not None and new.is_relative_to(self.folder):
            self._last[tab] = new

    def answers(self, tab: str) -> Path:
        """An empty folder for the files of the answer to a tab."""
        if tab in self._answers:
            shutil.rmtree(self._answers[tab], ignore_errors=True)
        self._answers[tab] = Path(tempfile.mkdtemp(prefix="answer-", dir=self.folder))
        return self._answers[tab]

    def closed(self, tab: str) -> None:
        """A tab was closed."""
        self.replaced(tab, None)
        if tab in self._answers:
            shutil.rmtree(self._answers.pop(tab), ignore_errors=True)
