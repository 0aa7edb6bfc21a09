"""A base of the hub is downloaded from a server on this machine, with a bar, and its absence is said."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

NAME, COMMIT = "org/tiny", "0123456789abcdef0123456789abcdef01234567"
ROOT = Path(__file__).parents[3]
CHUNK = 2**21
WEIGHTS = bytes(2**25)  # the hub's client counts pieces of 10 MiB
DOWNLOAD = """
import sys
from rich.console import Console
from trainables.errors import UserError
from trainables import progress
progress.BEAT_SECONDS = 0.2
from sweeps.planning.hub_download import downloaded_base
try:
    with progress.working(Console(), "planning"):
        path = downloaded_base(sys.argv[1])
    print("at", path)
except UserError as error:
    print("refused:", error.message)
"""


class Hub(BaseHTTPRequestHandler):
    """The parts of a hub that a download asks for: the list of files, and each file with its size and digest."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *given: object, files: dict[str, bytes], slow: threading.Event) -> None:
        self.files, self.slow = files, slow
        super().__init__(*given)  # type: ignore[arg-type] as the server passes them

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        """Answer with size and digest."""
        self._answer(send_body=False)

    def do_GET(self) -> None:
        """Answer with the body."""
        self._answer(send_body=True)

    def _answer(self, send_body: bool) -> None:
        path = self.path.split("?")[0]
        if path.startswith(f"/api/models/{NAME}/tree/"):
            body = json.dumps([{"type": "file", "path": name, "size": len(data), "oid": self._etag(data)}
                               for name, data in self.files.items()]).encode()  # fmt: skip
        elif path.startswith(f"/api/models/{NAME}"):
            siblings = [{"rfilename": name} for name in self.files]
            body = json.dumps({"id": NAME, "modelId": NAME, "sha": COMMIT, "siblings": siblings}).encode()
        else:
            name = path.removeprefix(f"/{NAME}/resolve/{COMMIT}/")
            if name not in self.files:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = self.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{self._etag(body)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        for start in range(0, len(body) if send_body else 0, CHUNK):
            if len(body) > CHUNK:
                self.slow.wait(0.1)  # so that the bar is seen to move
            self.wfile.write(body[start : start + CHUNK])

    @staticmethod
    def _etag(data: bytes) -> str:
        return hashlib.sha1(data, usedforsecurity=False).hexdigest()


@pytest.fixture
def hub() -> Iterator[tuple[str, dict[str, bytes]]]:
    files = {"config.json": b'{"model_type": "llama"}', "model.safetensors": WEIGHTS, "README.bin": b"no"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, files=files, slow=threading.Event()))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", files
    server.shutdown()
    server.server_close()


def environment(address: str, home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return {**kept, "HF_ENDPOINT": address, "HF_HOME": str(home), "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1",
            "COLUMNS": "80", "LINES": "24", "TERM": "xterm", "NO_PROXY": "127.0.0.1"}  # fmt: skip


def downloaded(address: str, home: Path, name: str = NAME) -> str:
    command = [sys.executable, "-c", DOWNLOAD, name]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(address, home), timeout=120,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stdout + done.stderr and "\x1b" not in done.stdout + done.stderr, "a log has no bars"
    return done.stdout


def test_a_base_is_downloaded_and_a_log_says_how_much_is_there(
    hub: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    address, files = hub
    said = downloaded(address, tmp_path)
    path = Path(said.splitlines()[-1].removeprefix("at "))
    assert {one.name for one in path.iterdir()} == {"config.json", "model.safetensors"}
    assert (path / "model.safetensors").read_bytes() == files["model.safetensors"]
    amounts = [line for line in said.splitlines() if " of 33.6 MB, " in line]
    assert len({line.split(": ")[1].split(" of")[0] for line in amounts}) >= 3, said
    again = downloaded(address, tmp_path)
    assert f"asking the hub for {NAME}" in again and "downloading" not in again


def test_a_terminal_has_a_bar(hub: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", DOWNLOAD, NAME], stdout=theirs, stderr=theirs,
                               env=environment(hub[0], tmp_path))  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 65536):
            seen += chunk
    except OSError:  # Linux raises it at the end of the terminal
        pass
    os.close(ours)
    assert process.wait(60) == 0
    assert f"downloading {NAME}".encode() in seen and b" of 33.6 MB" in seen and "━".encode() in seen


def test_a_base_that_the_hub_lacks_is_refused(hub: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    said = downloaded(hub[0], tmp_path, "org/other")
    assert "refused: a base must be a directory or a model of the hub, but `org/other` is no directory" in said
