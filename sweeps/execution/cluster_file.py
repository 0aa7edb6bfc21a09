"""What a launch on a cluster needs to know of the file that `ray up` reads, such as `cluster.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from trainables.errors import UserError, quoted
from trainables.io.strict_yaml import Document, read_yaml

CHECKOUT_FILE = "pyproject.toml"  # whoever mounts it mounts the checkout
TOKEN_MODE = "RAY_AUTH_MODE=token"  # noqa: S105 no secret


@dataclass(frozen=True)
class ClusterFile:
    """A cluster's file: the directory of the checkout on the head, whether Ray asks for a token, the nodes it starts.

    `nodes` counts the head, and of nodes that come and go only those that are always there.
    """

    path: Path
    directory: PurePosixPath
    asks_token: bool
    nodes: int


def read_cluster_file(path: Path) -> ClusterFile:
    """Read a cluster's file.

    Raises:
        UserError: the file cannot be read, is no YAML, or mounts no checkout.
    """
    document = read_yaml(path)
    mounts = document.values.get("file_mounts")
    found = [mount for mount in mounts or () if PurePosixPath(mount).name == CHECKOUT_FILE] if mounts else []
    if not isinstance(mounts, Mapping) or not found:
        raise UserError(
            f"{document.where('file_mounts')} must copy the checkout's {CHECKOUT_FILE} to the head, but got "
            f"{quoted(mounts)}",
            "start from the `cluster.yaml` of this repository",
        )
    commands = document.values.get("head_start_ray_commands") or ()
    return ClusterFile(
        path=path,
        directory=PurePosixPath(found[0]).parent,
        asks_token=any(TOKEN_MODE in str(command) for command in commands),
        nodes=_nodes(document),
    )


def _nodes(document: Document) -> int:
    provider = document.values.get("provider")
    workers = provider.get("worker_ips") if isinstance(provider, Mapping) else None
    if isinstance(workers, list | tuple):
        return 1 + len(workers)
    types: Any = document.values.get("available_node_types")
    if not isinstance(types, Mapping):
        return 1
    minimums = (one.get("min_workers") for one in types.values() if isinstance(one, Mapping))
    return 1 + sum(count for count in minimums if isinstance(count, int))
