"""Starts a module of this package as a process: forked where there is a server, else as any other.

A launch on this machine starts the server, and its processes find it by the environment.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

VARIABLE, OFF = "FOOTPRINT_PRELOADED", "off"
SERVER = "trainables.preloaded.server"
PACKAGE_ROOT = Path(__file__).resolve().parents[2]
MOST_WAITING = 64
RETURNED_BYTES = str(2**17)  # larger blocks go back to the system when they are freed; see mallopt(3)
CONNECT_SECONDS = 60.0  # while a busy server still imports, it accepts later


class Running(Protocol):
    """A process with pipes: what `subprocess.Popen` has of it."""

    pid: int
    stdin: IO[str] | None
    stdout: IO[str] | None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        ...

    def wait(self) -> int:
        """Wait until it has ended, and return the exit code."""
        ...

    def terminate(self) -> None:
        """Ask it to end."""
        ...


def started(module: str, log: IO[str]) -> Running:
    """Start `python -m MODULE` with pipes as standard input and output, in a session of its own; it logs to `log`."""
    environment = _environment()
    if (server := os.environ.get(VARIABLE)) and server != OFF:
        with suppress(OSError, ValueError):  # it has ended, or is of another machine
            return Forked(Path(server), module, environment, log)
    return subprocess.Popen(  # noqa: S603 a module of this package
        [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        env=environment, start_new_session=True,
    )  # fmt: skip


class Forked:
    """A process that the server has forked.

    Raises:
        OSError: the server does not answer.
        ValueError: it does not fork this module.
    """

    def __init__(self, server: Path, module: str, environment: Mapping[str, str], log: IO[str]) -> None:
        self._code: int | None = None
        with ExitStack() as failing:
            self._connection = failing.enter_context(socket.socket(socket.AF_UNIX))
            self._connection.settimeout(CONNECT_SECONDS)
            self._connection.connect(str(server))
            request = {"module": module, "environment": dict(environment), "directory": os.getcwd()}
            theirs_in, ours_in = os.pipe()
            ours_out, theirs_out = os.pipe()
            self.stdin: IO[str] | None = failing.enter_context(os.fdopen(ours_in, "w", encoding="utf-8"))
            self.stdout: IO[str] | None = failing.enter_context(os.fdopen(ours_out, encoding="utf-8"))
            try:
                line = json.dumps(request).encode() + b"\n"
                sent = socket.send_fds(self._connection, [line], [theirs_in, theirs_out, log.fileno()])
                if sent < len(line):
                    self._connection.sendall(line[sent:])
            finally:
                os.close(theirs_in)
                os.close(theirs_out)
            self._answers = failing.enter_context(self._connection.makefile("r", encoding="ascii"))
            self.pid = int(self._answers.readline())
            self._connection.settimeout(None)
            failing.pop_all()

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        if self._code is None and select.select([self._connection], [], [], 0.0)[0]:
            return self.wait()
        return self._code

    def wait(self) -> int:
        """Wait until it has ended, and return the exit code; -9 if the server ended before it."""
        if self._code is None:
            answer = self._answers.readline().strip()
            self._code = int(answer) if answer else -signal.SIGKILL
            self._answers.close()
            self._connection.close()
        return self._code

    def terminate(self) -> None:
        """Ask it to end."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)


@contextmanager
def serving() -> Iterator[None]:
    """Let processes of this launch be forked until the end of the block, where that is safe.

    A process that has met a GPU must not fork, and on macOS a system library may hold a lock; there nothing is forked.
    """
    if not forks_safely():
        yield
        return
    with tempfile.TemporaryDirectory(prefix="footprint-") as directory:  # only this user can enter it
        path = Path(directory) / "preloaded"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen(MOST_WAITING)
            process = subprocess.Popen(  # noqa: S603 a module of this package
                [sys.executable, "-m", SERVER], stdin=subprocess.PIPE, text=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment(), start_new_session=True,
                pass_fds=[listening.fileno()],
            )  # fmt: skip
            assert process.stdin
            with suppress(BrokenPipeError):  # it has ended, so nothing is forked
                process.stdin.write(json.dumps({"listening": listening.fileno()}) + "\n")
                process.stdin.flush()
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = str(path)
        try:
            yield
        finally:
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before
            process.terminate()
            process.wait()
            process.stdin.close()


def forks_safely() -> bool:
    """Return True on Linux without a GPU, unless the user has turned it off."""
    has_gpu = any(Path("/dev").glob("nvidia[0-9]*"))
    return sys.platform == "linux" and not has_gpu and os.environ.get(VARIABLE) != OFF


def _environment() -> dict[str, str]:
    paths = [str(PACKAGE_ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "MALLOC_MMAP_THRESHOLD_": RETURNED_BYTES}
