"""Says how many engines a launch starts and how many threads each of them has: in the plan, and when Ray answers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sweeps.execution.engine_plan import EnginePlan, Node, engine_plans
from sweeps.execution.options import Launch

ALONE = "Every trial trains alone, in a process of one thread."


def threads_text(trials: int, launch: Launch) -> str:
    """Return the sentence of the plan on the engines of a launch, and their threads; `trials` can run at once."""
    return ALONE if launch.cohort == 1 else planned_text(_machine(launch), trials, launch.threads)


def engines_here(trials: int, launch: Launch) -> int:
    """Return how many engines train `trials` trials here; 1 on a cluster, whose nodes a plan does not ask."""
    machine = _machine(launch)
    if machine is None:
        return 1
    cores, gpus = machine
    if launch.cohort == 1:
        return max(1, min(trials, gpus or cores))
    return len(engine_plans([Node("this machine", cores, gpus)], trials, launch.threads))


def shares_device(launch: Launch) -> bool:
    """True when the engines of a launch share the memory of this machine, which has no GPU."""
    machine = _machine(launch)
    return machine is not None and not machine[1]


def planned_text(machine: tuple[int, int] | None, trials: int, max_threads: int | None) -> str:
    """Return the sentence of the plan on engines for `trials` trials at once.

    `machine` is the number of cores and of GPUs of this machine, None if the launch joins a cluster, whose nodes a plan
    does not ask. `max_threads` is the limit of the launch.
    """
    if machine is None:
        most = f", at most {max_threads}" if max_threads else ""
        return f"Engines have their share of their node's cores as threads{most}; the launch prints how many."
    cores, gpus = machine
    plans = engine_plans([Node("this machine", cores, gpus)], trials, max_threads)
    found = f"{cores} core{'s' * (cores != 1)}" + (f" and {gpus} GPU{'s' * (gpus != 1)}" if gpus else "")
    return f"{engines_text(plans)}, on {found} (--threads limits them)."


def engines_text(plans: Sequence[EnginePlan]) -> str:
    """Return how many engines have how many threads, those with most threads first, without a full stop."""
    counts = Counter(one.threads for one in plans)
    groups = [
        f"{count} engine{'s' * (count != 1)} of {threads} thread{'s' * (threads != 1)}"
        for threads, count in sorted(counts.items(), reverse=True)
    ]
    return ", ".join(groups)


def _machine(launch: Launch) -> tuple[int, int] | None:
    return (os.cpu_count() or 1, _gpus()) if launch.is_local else None


def _gpus() -> int:
    return len(list(Path("/dev").glob("nvidia[0-9]*")))
