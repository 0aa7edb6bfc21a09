"""Checks that every node of a Ray cluster has the same storage, data and libraries as the driver, and can train."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import uuid4

from trainables.errors import UserError
from trainables.selftest.machine import PACKAGE_ROOT, Check, machine_checks

LIBRARIES = ("ray", "torch", "transformers", "peft", "bitsandbytes")
NODE_SECONDS = 300.0


def absence_hint(cluster: str) -> str:
    """Return where it stands why a node of a cluster's file is not up, and what brings it back."""
    return (
        f"`ray exec {cluster} 'ray status'` lists the others under Pending or Recent failures; workers follow the head "
        "by minutes. On machines of your own, a worker whose set-up failed once stays away until the next `ray up`; "
        f"`ray monitor {cluster}` shows why it failed. To start with fewer: --expect-nodes"
    )


@dataclass(frozen=True)
class NodeReport:
    """The checks of one node: its versions, the paths that differ from the driver's, and its machine checks."""

    node: str
    versions: Mapping[str, str]
    path_problems: tuple[str, ...]
    machine: tuple[Check, ...]


def check_this_node(storage: Path, token: str, sizes: Mapping[str, int]) -> NodeReport:
    """Check the node on which this runs.

    Args:
        storage: a directory in which the driver wrote the file `token`; this node writes another file there.
        sizes: the size in bytes of every data file on the driver, 0 for a directory.
    """
    node = platform.node()
    path_problems = [f"{path}: {problem}" for path, size in sizes.items() if (problem := _differs(Path(path), size))]
    try:
        if not (storage / token).is_file():
            path_problems.append(f"{storage}: it is not the directory that the driver uses")
        else:
            (storage / f"{token}-{node}").touch()
    except OSError as error:
        path_problems.append(f"{storage}: {error.strerror}")
    return NodeReport(node, versions(), tuple(path_problems), tuple(machine_checks()))


def _differs(path: Path, size: int) -> str | None:
    if not path.exists():
        return "it does not exist"
    if size and path.stat().st_size != size:
        return f"it has {path.stat().st_size:,} bytes instead of {size:,}"
    return None


def versions() -> dict[str, str]:
    """Return the versions that must be equal on all nodes; for this package, a hash of its source."""
    digest = sha256()
    for path in sorted((PACKAGE_ROOT / "trainables").rglob("*.py")):
        digest.update(path.read_bytes())
    found = {name: metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **found, "footprint": digest.hexdigest()[:8]}


def node_reports(address: str | None, storage: Path, paths: Sequence[Path]) -> list[NodeReport]:
    """Start Ray on this machine, or join the cluster at `address`, and check every node.

    Raises:
        UserError: Ray does not start, or a node does not answer within `NODE_SECONDS`.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from sweeps.execution.ray_session import ray_directory, ray_session

    token = f".doctor-{uuid4().hex}"
    sizes = {str(path): path.stat().st_size if path.is_file() else 0 for path in paths}
    (storage / token).touch()
    try:
        with ray_session(address):
            task: Any = ray.remote(num_cpus=0)(check_this_node)
            nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
            reports = [
                task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                    storage, token, sizes
                )
                for node in nodes
            ]
            return ray.get(reports, timeout=NODE_SECONDS)
    except (RayError, ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise UserError(
            f"Ray must start and every node answer, but: {reason}",
            "`ray status` shows which nodes are up; every node needs this project installed at the same version"
            if address
            else f"see {ray_directory()}/session_latest/logs",
        ) from None
    finally:
        for path in storage.glob(f"{token}*"):
            path.unlink(missing_ok=True)
