"""A tab of a headless Chromium, driven by the protocol of its developer tools."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_SECONDS = 60


def installed_browser() -> str | None:
    """Return the path of a Chromium on this machine, None if there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@dataclass
class Tab:
    """One tab; `errors` are its console errors and exceptions, `requests` the addresses that it asked for."""

    socket: ClientWebSocketResponse
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    number: int = 0

    async def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events that come before it are kept."""
        self.number += 1
        await self.socket.send_str(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            answer = await self._next()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    async def open(self, path: Path, width: int, dark: bool = False) -> None:
        """Open a file in a window of this width, as a phone would below 500 pixels."""
        await self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
                       mobile=width < 500)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.ask("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.events.clear()
        await self.ask("Page.navigate", url=path.as_uri())
        while "Page.loadEventFired" not in self.events:
            await self._next()

    async def value(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        found = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    async def press_tab(self) -> None:
        """Press the tabulator key."""
        for kind in ("rawKeyDown", "keyUp"):
            await self.ask("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)

    async def screenshot(self, path: Path) -> None:
        """Write the whole page as PNG."""
        found = await self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    async def printed(self, path: Path) -> None:
        """Print to a PDF on A4 paper."""
        found = await self.ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
        path.write_bytes(base64.b64decode(found["data"]))

    async def _next(self) -> dict[str, Any]:
        message = json.loads((await self.socket.receive(timeout=START_SECONDS)).data)
        parameters = message.get("params", {})
        match message.get("method", ""):
            case "Runtime.exceptionThrown":
                self.errors.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning"):
                self.errors.append(str(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.errors.append(parameters["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
        self.events.append(message.get("method", ""))
        return message


@asynccontextmanager
async def browser_tab(program: str, profile: Path) -> AsyncIterator[Tab]:
    """Start a browser with an empty profile and open a tab; the browser ends with the block."""
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
    command = [program, *options, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = await _port(profile / "DevToolsActivePort")
        async with ClientSession() as session:
            async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
                address = (await answer.json())["webSocketDebuggerUrl"]
            async with session.ws_connect(address, max_msg_size=0) as socket:
                tab = Tab(socket)
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await tab.ask(f"{domain}.enable")
                yield tab
    finally:
        process.terminate()
        process.wait(30)


async def _port(file: Path) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if file.is_file() and (text := file.read_text()):
            return int(text.split("\n")[0])
        await asyncio.sleep(0.1)
    raise AssertionError(f"the browser did not start within {START_SECONDS} s")
