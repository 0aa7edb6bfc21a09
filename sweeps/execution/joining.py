"""Tries whether a Ray cluster can be joined, in a process that is ended when no answer comes.

`ray.init` alone waits minutes for an address at which no cluster answers. The process writes one JSON line as it begins
each step::

    echo '{"address": "10.0.0.1:6379"}' | python -m sweeps.execution.joining
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import IO, Literal

from trainables.errors import InfrastructureError, named, redacted
from trainables.io.requests import read_request
from trainables.typed import typed

MODULE = "sweeps.execution.joining"
PACKAGE_ROOT = Path(__file__).parents[2]
LOADING_SECONDS = 60.0  # to start Python and load Ray, which depends on this machine alone
ANSWER_SECONDS = 12.0  # for everything after that
CONNECT_SECONDS = 5.0
REFUSED = "InvalidAuthToken"  # in what Ray's client logs
CLIENT = "ray://"
ON_HEAD = "run the command on the cluster's head node: ray exec cluster.yaml 'COMMAND'"
COPY_TOKEN = "copy ~/.ray/auth_token from the cluster's head node"  # noqa: S105 a hint

Step = Literal["load", "find", "connect", "token", "node", "join", "joined"]


@dataclass(frozen=True)
class JoinProgress:
    """The step that was begun last, the address that Ray takes, and why the step failed, empty unless it did."""

    step: Step
    address: str
    reason: str = ""


# ---------------------------------------------------------------- the launch's side
def address_to_join(address: str | None, environment: Mapping[str, str]) -> str | None:
    """Return the address that `ray.init(address)` joins, None if it starts Ray on this machine."""
    given = (environment.get("RAY_ADDRESS") or address) if address in (None, "auto") else address
    return None if given == "local" else given


def check_joining(address: str) -> None:
    """Join the cluster at `address` in another process, and leave it.

    Raises:
        InfrastructureError: no cluster can be joined there within `ANSWER_SECONDS`.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log, _process(address, log) as process:
        last = _last_progress(process, address)
        if last.step != "joined":
            process.kill()
            process.wait()
            log.seek(0)
            raise _explained(last, log.read())


@contextmanager
def _process(address: str, log: IO[str]) -> Iterator[subprocess.Popen[str]]:
    paths = os.pathsep.join(filter(None, (str(PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))
    with subprocess.Popen(  # noqa: S603 this very module
        [sys.executable, "-m", MODULE],
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    ) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"address": address}) + "\n")
            process.stdin.close()
            yield process
        finally:
            process.kill()


def _last_progress(process: subprocess.Popen[str], address: str) -> JoinProgress:
    """Return how far the process came before it ended, failed, or had no more time."""
    lines: Queue[str] = Queue()
    Thread(target=_forward, args=(process.stdout, lines), daemon=True).start()
    last = JoinProgress("load", address)
    seconds, ends = LOADING_SECONDS, time.monotonic() + LOADING_SECONDS
    while last.step != "joined" and not last.reason:
        try:
            line = lines.get(timeout=max(0.0, ends - time.monotonic()))
        except Empty:
            return replace(last, reason=f"there is no answer within {seconds:.0f} s")
        if not line:
            return replace(last, reason=f"the process that joins it ended with exit code {process.wait()}")
        if last.step == "load":
            seconds, ends = ANSWER_SECONDS, time.monotonic() + ANSWER_SECONDS
        last = JoinProgress(**json.loads(line))
    return last


def _forward(stream: IO[str], lines: Queue[str]) -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def _explained(last: JoinProgress, log: str) -> InfrastructureError:
    """Return the error for the step that failed; `log` is what the process wrote to stderr."""
    where, reason = f"`{named(redacted(last.address))}`", last.reason
    match last.step:
        case "load":
            message = f"Ray must load on this machine, but: {reason}"
            hint = f"on a busy machine try again later; else run `{typed('doctor')}`"
        case "find" if last.address == "auto":
            message = "--address auto must find a Ray cluster on this machine, but none runs here"
            hint = f"{ON_HEAD}; or leave --address out"
        case "find":
            message = f"the address of a Ray cluster must be `auto` or HOST:PORT, but it is {where}"
            hint = "name the head node and its port, such as --address 10.0.0.1:6379, or correct RAY_ADDRESS"
        case "token":
            message = f"RAY_AUTH_MODE is token, so this user must have the cluster's token, but: {reason}"
            hint = f"{COPY_TOKEN} to the same path here"
        case "node":
            message = f"this machine must be a node of the cluster at {where}, but no Ray runs on it"
            hint = f"{ON_HEAD}; or correct the address"
        case _ if REFUSED in log + reason:
            message = f"the Ray cluster at {where} must accept this user's token, but refuses it"
            hint = f"{COPY_TOKEN} to the same path here, and export RAY_AUTH_MODE=token"
        case _:
            message = f"a Ray cluster must answer at {where}, but: {reason}"
            hint = "`ray status` on its head node shows whether it is up; --address auto finds one on this machine"
    return InfrastructureError(message, hint)


# ---------------------------------------------------------------- the process
def join(address: str) -> Iterator[JoinProgress]:
    """Join the cluster at `address` and leave it; yields each step as it begins, and once more if it fails."""
    import ray
    from ray.exceptions import RayError

    progress = JoinProgress("find", address)
    try:
        yield progress
        found = _found(address)
        yield (progress := JoinProgress("connect", address if address.startswith(CLIENT) else found))
        host, _, port = found.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        yield (progress := replace(progress, step="token"))
        _check_token(asks_by_itself=address == "auto")
        if not address.startswith(CLIENT):
            yield (progress := replace(progress, step="node"))
            _check_node()
        yield (progress := replace(progress, step="join"))
        ray.init(address=address, logging_level=logging.CRITICAL, log_to_driver=False)
        yield replace(progress, step="joined")
    except (RayError, OSError, RuntimeError, ValueError) as error:
        yield replace(progress, reason=_reason(error))


def _found(address: str) -> str:
    """Return HOST:PORT of an address, as Ray finds it.

    Raises:
        ConnectionError: `auto` finds no cluster on this machine.
        ValueError: it is no address.
    """
    from ray._private import services

    found = services.canonicalize_bootstrap_address(address.removeprefix(CLIENT)) or ""
    port = found.rpartition(":")[2]
    if "://" in found or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"{address} has no port")
    return found


def _check_token(*, asks_by_itself: bool) -> None:
    """Let Ray look for the token as `ray.init` does when it joins a cluster; with `auto` it chooses the mode itself.

    Raises:
        AuthenticationError: the authentication mode is token, and there is none.
    """
    from ray._private.authentication import authentication_token_setup as setup

    if asks_by_itself:
        setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    setup.ensure_token_if_auth_enabled(create_token_if_missing=False)


def _check_node() -> None:
    """Check that a node of Ray runs on this machine, for which `ray.init` waits a minute.

    Raises:
        RuntimeError: there is none.
    """
    from ray._private import services

    if not services.find_node_ids():
        raise RuntimeError("no node of Ray runs on this machine")


def _reason(error: BaseException) -> str:
    """Return what an error says, without the advice that Ray appends; the cause says more than `Failed to connect`."""
    error = error.__cause__ or error
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return text.strip().splitlines()[0].partition(". ")[0].rstrip(".")


def main() -> None:
    """Answer the request on standard input; only progress goes to standard output."""
    request = read_request(MODULE, f"`{typed('doctor', '--address', 'ADDRESS')}`", sys.argv[1:], sys.stdin)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # Ray writes there, too
    for progress in join(str(request["address"])):
        print(json.dumps(asdict(progress)), file=answers, flush=True)


if __name__ == "__main__":
    main()
