"""Ray's job server: reaches it, counts the nodes, submits jobs, and follows their logs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sweeps.execution.cluster import absence_hint
from sweeps.execution.cluster_file import ClusterFile
from trainables.errors import ExitCode, InfrastructureError, UserError, redacted

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

PROBE_SECONDS, TUNNEL_SECONDS, NODES_SECONDS, POLL_SECONDS = 5.0, 60.0, 20.0, 0.5
MOST_NODES = 10_000  # that Ray lists at once, with those that were lost
TOKEN_FILE = "~/.ray/auth_token"  # noqa: S105 the file's path, which is no secret
TOKEN_HINT = "make one: (umask 077; ray get-auth-token --generate), then `ray up` again"  # noqa: S105
Say = Callable[[str], None]


@dataclass(frozen=True)
class EndedJob:
    """How a job ended: Ray's status of it, and the exit code of its command; None if it has none."""

    status: str
    exit_code: int | None


def check_token(cluster: ClusterFile) -> None:
    """Check that this machine has the token that the cluster asks for, and make Ray send it.

    Raises:
        UserError: there is none.
    """
    if not cluster.asks_token:
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN_FILE).expanduser()
    if not os.environ.get("RAY_AUTH_TOKEN") and not (path.is_file() and path.read_text(encoding="utf-8").strip()):
        raise UserError(f"{cluster.path} asks for a token, but {path} holds none", TOKEN_HINT)
    os.environ["RAY_AUTH_MODE"] = "token"  # read when ray is imported


@contextmanager
def reached_server(cluster: ClusterFile, server: str) -> Iterator[str]:
    """Yield the address of the cluster's job server: `server`, else a tunnel that `ray dashboard` opens.

    Raises:
        InfrastructureError: nothing answers.
    """
    if server:
        _probe(server)
        yield server
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ray.scripts.scripts", "dashboard", str(cluster.path), "--port", str(port)]
    tunnel = subprocess.Popen(  # noqa: S603 our own words
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        _wait_for(tunnel, port, cluster)
        yield f"http://127.0.0.1:{port}"
    finally:
        if tunnel.poll() is None:
            os.killpg(tunnel.pid, signal.SIGTERM)
        tunnel.communicate()


@dataclass(frozen=True)
class JobServer:
    """A job server that answers."""

    client: JobSubmissionClient

    def submit(self, entrypoint: str, job_id: str) -> None:
        """Start a job: a command for the shell of the head.

        Raises:
            InfrastructureError: the server does not take it.
        """
        try:
            self.client.submit_job(entrypoint=entrypoint, submission_id=job_id)
        except (ConnectionError, RuntimeError) as error:
            raise InfrastructureError(f"Ray must take the job {job_id}, but: {_first_line(error)}",
                                      "see the logs of the head in the dashboard") from None  # fmt: skip

    def follow(self, job_id: str, write: Say) -> EndedJob:
        """Write the log of a job until it ends.

        Raises:
            InfrastructureError: the connection was lost; the job goes on.
        """
        from aiohttp import ClientError

        try:
            asyncio.run(_tail(self.client, job_id, write))
            while not (status := self.client.get_job_status(job_id)).is_terminal():
                time.sleep(POLL_SECONDS)
            return EndedJob(status.value, self.client.get_job_info(job_id).driver_exit_code)
        except (ClientError, OSError, RuntimeError) as error:
            raise InfrastructureError(
                f"the job server must answer while a log is followed, but: {_first_line(error)}",
                f"`{job_id}` goes on without this; the commands above watch it",
            ) from None

    def run(self, entrypoint: str, job_id: str, write: Say) -> EndedJob:
        """Run a job and write its log; Ctrl-C stops it."""
        self.submit(entrypoint, job_id)
        try:
            return self.follow(job_id, write)
        except KeyboardInterrupt:
            self.client.stop_job(job_id)
            raise


def connected(server: str) -> JobServer:
    """Return the job server at an address.

    Raises:
        InfrastructureError: it does not answer, or refuses the token.
    """
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    logging.getLogger(JobSubmissionClient.__module__).setLevel(logging.WARNING)  # it tells when a log ends
    try:
        return JobServer(JobSubmissionClient(server))
    except AuthenticationError as error:
        raise InfrastructureError(
            f"the cluster must accept this machine's token, but: {_first_line(error)}",
            f"copy {TOKEN_FILE} from the machine that ran `ray up`",
        ) from None
    except (ConnectionError, RuntimeError) as error:
        raise InfrastructureError(
            f"Ray's job server must answer at {redacted(server)}, but: {_first_line(error)}",
            "`ray exec CLUSTER 'ray status'` shows whether the head runs; it needs ray[default]",
        ) from None


def active_nodes(server: str, expected: int) -> list[str]:
    """Return the names of the nodes that are up, as soon as as many are as expected, or after `NODES_SECONDS`.

    The job server lists a node only seconds after it has joined.

    Raises:
        InfrastructureError: the head does not list them.
    """
    from ray.util.state import list_nodes
    from ray.util.state.exception import RayStateApiException

    deadline = time.monotonic() + NODES_SECONDS
    nodes: list[Any] = []
    try:
        while len(nodes) < expected and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            # Ray takes nodes that it filters out, those that were lost, for nodes that it could not list, and raises
            listed: list[Any] = list_nodes(address=server, limit=MOST_NODES, raise_on_missing_output=False)
            nodes = [node for node in listed if node.state == "ALIVE"]
    except (RayStateApiException, ConnectionError) as error:
        raise InfrastructureError(f"the head must list its nodes, but: {_first_line(error)}",
                                  "try again; a head that has just started needs a minute") from None  # fmt: skip
    return sorted(f"{node.node_name} (head)" if node.is_head_node else str(node.node_name) for node in nodes)


def check_nodes(cluster: ClusterFile, found: list[str], expected: int) -> None:
    """Check that as many nodes are up as expected.

    Raises:
        InfrastructureError: there are fewer.
    """
    if len(found) >= expected:
        return
    raise InfrastructureError(
        f"{expected} nodes must be up, but {len(found)} are: {', '.join(found)}",
        absence_hint(str(cluster.path)),
    )


def exit_code_of(ended: EndedJob) -> int:
    """Return the exit code of a followed job: that of its command, if it has one and no signal has ended it."""
    if ended.exit_code is not None and ended.exit_code >= 0:
        return ended.exit_code
    return {"SUCCEEDED": ExitCode.DONE, "STOPPED": ExitCode.STOPPED}.get(ended.status, ExitCode.INFRASTRUCTURE)


async def _tail(client: JobSubmissionClient, job_id: str, write: Say) -> None:
    async for text in client.tail_job_logs(job_id):
        write(text)


def _wait_for(tunnel: subprocess.Popen[str], port: int, cluster: ClusterFile) -> None:
    deadline = time.monotonic() + TUNNEL_SECONDS
    while time.monotonic() < deadline and tunnel.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PROBE_SECONDS).close()
        except OSError:
            time.sleep(POLL_SECONDS)
        else:
            return
    said = ""
    if tunnel.poll() is not None and tunnel.stdout is not None:
        lines = [line.strip() for line in tunnel.stdout.read().splitlines() if line.strip()]
        said = lines[-1] if lines else ""
    reason = said or f"nothing answered within {TUNNEL_SECONDS:.0f} s"
    raise InfrastructureError(
        f"`ray dashboard {cluster.path}` must open a tunnel to the head, but: {redacted(reason)}",
        f"run `ray up {cluster.path}` first; `ray exec {cluster.path} 'ray status'` shows whether the head runs",
    )


def _probe(server: str) -> None:
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--job-server must be an address such as http://127.0.0.1:8265, but got {redacted(server)}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=PROBE_SECONDS).close()
    except OSError as error:
        raise InfrastructureError(
            f"Ray's job server must answer at {redacted(server)}, but: {error.strerror or error}",
            "`ray status` on the head shows whether it runs; `ray dashboard CLUSTER` opens a tunnel to it",
        ) from None


def _first_line(error: BaseException) -> str:
    lines = redacted(str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__
