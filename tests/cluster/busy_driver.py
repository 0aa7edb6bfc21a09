"""A driver with one actor, so that a cluster has the ports of both; prints `ready` and ends when its input does."""

from __future__ import annotations

import sys

import ray


@ray.remote(num_cpus=0)
class Holder:
    """An actor that does nothing."""

    def ready(self) -> bool:
        """Return True."""
        return True


ray.init(address=sys.argv[1], log_to_driver=False)
holder = Holder.remote()
assert ray.get(holder.ready.remote())
print("ready", flush=True)
sys.stdin.read()
