"""A Ray cluster of several nodes on this machine, each a raylet of its own, to which nodes come and which they leave.

The nodes share this machine's processes and disk, so a test sees how a sweep takes the loss of a node, and neither SSH
nor a network. Begin the sweep by `launches.begin` within `raylets`: its environment has the cluster's token.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

STORE_BYTES = 80_000_000  # Ray takes 75 MB or more
# a node counts as dead after about 2 s
HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}  # fmt: skip
ANSWER = "> "  # Ray writes to the same pipe


@dataclass(frozen=True)
class Raylets:
    """A running cluster; `address` is what `--address` takes, `process_ids` those of the raylets of added nodes."""

    process: subprocess.Popen[str]
    address: str
    process_ids: dict[str, int] = field(default_factory=dict)

    def add_node(self, cores: int) -> str:
        """Start a node, wait until it is alive, and return its id."""
        node_id, raylet = self._asked(f"add {cores}").split()
        self.process_ids[node_id] = int(raylet)
        return node_id

    def kill_node(self, node_id: str) -> None:
        """Kill a node that `add_node` started, as `kill -9` would; its workers end with it."""
        self._asked(f"kill {node_id}")
        del self.process_ids[node_id]

    def node_of(self, process_id: int) -> str:
        """Return the added node that runs a process.

        Raises:
            StopIteration: none does.
        """
        above = {one.pid for one in psutil.Process(process_id).parents()}
        return next(node for node, raylet in self.process_ids.items() if raylet in above)

    def _asked(self, command: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return _answer(self.process)


@contextmanager
def raylets(head_cores: int) -> Iterator[Raylets]:
    """Start a head with `head_cores` cores, 0 for one that trains nothing; at the end, every node is killed."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as short:  # sockets take no long path
        # Ray's nodes listen on all interfaces; for `auto`, Ray notes its address in the first directory
        private = {"RAY_TMPDIR": short, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        with (
            patch.dict(os.environ, private),
            subprocess.Popen(
                [sys.executable, __file__, str(head_cores), str(Path(short) / "ray")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            ) as process,
        ):  # fmt: skip
            try:
                yield Raylets(process, _answer(process))
            finally:
                process.communicate(timeout=60)  # the end of its input ends it


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(ANSWER):
            return line.removeprefix(ANSWER).strip()
    raise AssertionError(f"the cluster ended with exit code {process.wait()}")


def main() -> None:
    """Keep a cluster, and add and kill nodes as the input says, until it ends."""
    from ray.cluster_utils import Cluster

    cores, directory = int(sys.argv[1]), Path(sys.argv[2])
    directory.mkdir()
    head = {"num_cpus": cores, "object_store_memory": STORE_BYTES, "include_dashboard": False,
            "temp_dir": str(directory), "_system_config": HEALTH_CHECKS}  # fmt: skip
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes: dict[str, Any] = {}
    print(f"{ANSWER}{cluster.address}", flush=True)
    for line in sys.stdin:
        verb, word = line.split()
        if verb == "add":
            node = cluster.add_node(num_cpus=int(word), object_store_memory=STORE_BYTES)
            nodes[node.node_id] = node
            [raylet] = node.all_processes["raylet"]
            print(f"{ANSWER}{node.node_id} {raylet.process.pid}", flush=True)
        else:
            cluster.remove_node(nodes.pop(word), allow_graceful=False)
            print(f"{ANSWER}killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
