"""A headless Chromium, driven through its debugging protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from tornado.websocket import websocket_connect

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0",
]  # fmt: skip


class Browser:
    """One page. `requests` are the addresses that it requested.

    profile : an empty folder
    """

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        self.requests: list[str] = []
        self._numbers, self._loop = itertools.count(1), asyncio.new_event_loop()
        command = [CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        port_file = profile / "DevToolsActivePort"
        until(lambda: port_file.is_file() and port_file.read_text().count("\n") == 1)
        port = port_file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            (page,) = (tab for tab in json.load(answer) if tab["type"] == "page")
        self._socket = self._run(self._connected(page["webSocketDebuggerUrl"]))
        self.call("Network.enable")

    async def _connected(self, address: str) -> Any:
        return await websocket_connect(address, max_message_size=1 << 28)

    def _run(self, work: Any) -> Any:
        return self._loop.run_until_complete(asyncio.wait_for(work, 60))

    async def _answer(self, number: int, method: str, parameters: dict[str, Any]) -> Any:
        await self._socket.write_message(
            json.dumps({"id": number, "method": method, "params": parameters})
        )
        while True:
            message = json.loads(await self._socket.read_message())
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def call(self, method: str, **parameters: Any) -> Any:
        return self._run(self._answer(next(self._numbers), method, parameters))

    def open(self, address: str, width: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=1000, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.call("Page.navigate", url=address)

    def value(self, script: str) -> Any:
        """What a script evaluates to."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script: str) -> Any:
        """The first true value of a script."""
        return until(lambda: self.value(script))

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file in an input of a form."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def close(self) -> None:
        try:
            self._run(self._closed())
        finally:
            self._process.terminate()
            self._process.wait()
            self._loop.close()

    async def _closed(self) -> None:  # in the loop: outside, Python 3.12 warns
        self._socket.close()


def until(true: Any, seconds: float = 60) -> Any:
    """The first true value of a function."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = true()
        if value:
            return value
        time.sleep(0.1)
    raise TimeoutError
