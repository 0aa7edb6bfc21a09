"""The process that has imported the heavy libraries, and forks the ones that are asked for.

Its parent listens on a Unix socket in a directory that only this user can enter, and names the descriptor of that
socket on standard input. The server ends when its standard input does. Who connects sends one line of JSON with three
descriptors: standard input, output and error of the new process. The answers are the id of the process, and its exit
code when it has ended.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NoReturn

from trainables.io.requests import read_request
from trainables.typed import typed

MODULE = "trainables.preloaded.server"
SERVED = ("trainables.data.scan", "trainables.selftest.reload")  # nothing else is run
PRELOADED = ("torch", "transformers", "peft", "trainables.data.scan", "trainables.evaluation.evaluator")
MOST_BYTES, POLL_SECONDS = 2**20, 0.1


@dataclass
class Server:
    """Forks processes for those who connect to `listening`."""

    listening: socket.socket
    children: dict[int, socket.socket] = field(default_factory=dict)

    def serve(self, parent: int) -> None:
        """Answer requests until the file descriptor `parent` is closed at its other end."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.listening, selectors.EVENT_READ)
            selector.register(parent, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select(POLL_SECONDS if self.children else None)}
                if parent in ready and not os.read(parent, 1):
                    return
                if self.listening in ready:
                    self._answer(self.listening.accept()[0])
                self._tell_of_ended()

    def _answer(self, connection: socket.socket) -> None:
        data, descriptors, _, _ = socket.recv_fds(connection, MOST_BYTES, 3)
        while data and not data.endswith(b"\n"):
            data += connection.recv(MOST_BYTES)
        if len(descriptors) == 3 and data:
            request = json.loads(data)
            if request["module"] in SERVED:
                self.children[self._forked(request, descriptors, connection)] = connection
                connection = None  # type: ignore[assignment]  it is answered again when the process ends
        for descriptor in descriptors:
            os.close(descriptor)
        if connection is not None:
            connection.close()

    def _forked(self, request: dict[str, Any], descriptors: Sequence[int], connection: socket.socket) -> int:
        pid = os.fork()
        if pid:
            with suppress(OSError):
                connection.sendall(f"{pid}\n".encode())
            return pid
        for other in (self.listening, connection, *self.children.values()):
            other.close()
        _become(request, descriptors)

    def _tell_of_ended(self) -> None:
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            connection = self.children.pop(pid)
            with suppress(OSError):  # nobody waits for it any more
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            connection.close()


def _become(request: dict[str, Any], descriptors: Sequence[int]) -> NoReturn:
    """Run the module of a request in this process, which was forked for it, and end."""
    code = [0]

    def ended(kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if isinstance(error, SystemExit):
            code[0] = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            code[0] = 1
            traceback.print_exception(error)
        return True  # only this process must end, not the server's loop in it

    with ExitStack() as stack:
        stack.push(ended)
        os.setsid()  # as a process with a session of its own: Ctrl-C is not for it
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
            os.close(descriptor)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(os.dup(at), mode) for at, mode in ((0, "r"), (1, "w"), (2, "w")))
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["directory"])
        sys.argv = [request["module"]]
        importlib.import_module(request["module"]).main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code[0])  # nothing of the server is to be cleaned up, and its libraries take a second to end


def main() -> None:
    """Import the libraries, and serve; who connects meanwhile waits."""
    request = read_request(MODULE, f"`{typed('stage4')}`", sys.argv[1:], sys.stdin)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=request["listening"]) as listening:
        for name in PRELOADED:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()  # what is never looked at again stays shared
        Server(listening).serve(sys.stdin.fileno())


if __name__ == "__main__":
    main()
