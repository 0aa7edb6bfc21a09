"""Starts Ray on this machine, or joins a cluster, and keeps secrets out of what Ray writes."""

from __future__ import annotations

import gc
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from ray._private import parameter, ray_constants
from ray.exceptions import AuthenticationError, RayError
from ray.tune.execution import class_cache

from sweeps.execution.engine_plan import Node
from sweeps.execution.joining import address_to_join, check_joining
from sweeps.execution.ray_token import protect_token
from trainables.errors import InfrastructureError, redacted
from trainables.typed import typed

UNREAD_STATE_SECONDS = "86400"  # between Tune's snapshots of all its trials, which nothing here reads
STARTS_FAIL_WITH = (RayError, OSError, RuntimeError, ValueError, TimeoutError)


@dataclass(frozen=True)
class Resources:
    """The resources of a cluster: its nodes, and what a worker reserves that trains in its own process."""

    cpus: float
    gpus: float
    nodes: tuple[Node, ...]


@contextmanager
def ray_session(address: str | None, verbose: bool = False) -> Iterator[Resources]:
    """Start Ray on this machine, or join the cluster at `address`; yields its resources.

    With `verbose`, what Ray says, and its workers print, is printed.

    Raises:
        InfrastructureError: Ray does not start, or no cluster answers at the address.
    """
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1", RAY_AIR_NEW_OUTPUT="0")
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # our handler makes trials checkpoint first
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = UNREAD_STATE_SECONDS
    keep_secrets_from_tune()
    joined = address_to_join(address, os.environ)
    if joined:
        check_joining(joined)
    with ExitStack() as stack:
        stack.callback(_shut_down)
        stack.push(_not_started(joined))
        local: dict[str, Any] = {}
        if not joined:
            local = {"include_dashboard": False, "_temp_dir": str(private_directory())}
        protect_token(makes_missing=not joined)
        with nullcontext() if joined else loopback_alone(), nullcontext() if joined else lean_start():
            ray.init(
                address=address,
                logging_level=logging.INFO if verbose else logging.CRITICAL,
                log_to_driver=verbose,
                configure_logging=True,
                **local,
            )
        resources = _resources()
        stack.pop_all()
    try:
        yield resources
    finally:
        _shut_down()


def keep_secrets_from_tune() -> None:
    """Let Tune give its workers no environment of their own.

    Ray writes such an environment to its logs, secrets with it, and starts a worker that has one in two steps, each of
    which imports Ray. Workers inherit the variables from the raylet anyway.
    """
    class_cache.ENV_VARS_TO_PROPAGATE.clear()
    class_cache.DEFAULT_ENV_VARS.clear()


def ray_directory() -> Path:
    """Return the path of the directory for Ray's sessions."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()).absolute() / f"ray-{os.getuid()}" / "ray"


def private_directory() -> Path:
    """Return the directory for Ray's sessions, in one that only this user can enter; creates it.

    Ray opens its own directories to everybody, again whenever a worker starts; the directory around them protects them.

    Raises:
        InfrastructureError: another user has made it.
    """
    around = ray_directory().parent
    around.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    if around.is_symlink() or around.stat().st_uid != os.getuid():
        raise InfrastructureError(
            f"Ray's directory must belong to this user, but {around} does not",
            "set RAY_TMPDIR to a directory of your own, with a short path",
        )
    around.chmod(stat.S_IRWXU)
    return ray_directory()


@contextmanager
def loopback_alone() -> Iterator[None]:
    """Let a Ray that starts meanwhile open its ports for this machine alone, not for its network.

    Ray listens on loopback if that is the address of its node, which it is where Ray has no clusters, as on macOS.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def lean_start() -> Iterator[None]:
    """Let a Ray that starts meanwhile have no autoscaler and no reader of logs, which one machine does not need."""
    before = parameter.RayParams
    parameter.RayParams = partial(before, no_monitor=True, include_log_monitor=False)  # type: ignore[misc]
    try:
        yield
    finally:
        parameter.RayParams = before  # type: ignore[misc]


def _not_started(address: str | None) -> Any:
    """Return an exit function that says why Ray did not start; Ray also raises `Exception` itself."""

    def leave(kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if (
            kind is None
            or isinstance(error, InfrastructureError)
            or not (kind is Exception or issubclass(kind, STARTS_FAIL_WITH))
        ):
            return
        if isinstance(error, AuthenticationError):
            raise InfrastructureError(
                f"Ray must find its token, but {str(error).partition('. ')[0]}",
                "unset RAY_AUTH_TOKEN_PATH, or let it name a file that holds a token",
            ) from error
        lines = [line for line in redacted(str(error)).strip().splitlines() if line.strip()]
        reason = (lines[0] if lines else kind.__name__).strip().rstrip(".")
        if address:
            raise InfrastructureError(
                f"a Ray cluster must answer at {redacted(address)}, but: {reason}",
                "`ray status` on its head node shows whether it is up; --address auto finds one on this machine",
            ) from error
        raise InfrastructureError(
            f"Ray must start on this machine, but: {reason}",
            f"on a busy machine try again later; else see {ray_directory()}/session_latest/logs, or run "
            f"`{typed('doctor')}`",
        ) from error

    return leave


def _shut_down() -> None:
    # Tune leaves reference cycles to Ray objects. If the garbage collector frees one on another thread (the MLflow
    # mirror) while Ray shuts down, this process crashes. So collect first, and disable the collector meanwhile.
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()


def _resources() -> Resources:
    nodes = live_nodes()
    return Resources(cpus=1, gpus=1 if any(node.gpus for node in nodes) else 0, nodes=nodes)


def live_nodes() -> tuple[Node, ...]:
    """Return the nodes of the cluster that are alive."""
    return tuple(
        Node(one["NodeID"], int(one["Resources"].get("CPU", 0)), int(one["Resources"].get("GPU", 0)),
             one.get("NodeManagerAddress", ""))
        for one in ray.nodes()
        if one["Alive"]
    )  # fmt: skip
