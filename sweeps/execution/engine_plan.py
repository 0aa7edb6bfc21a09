"""Plans the engines of a launch, and which trials each of them trains; imports no torch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainables.errors import InfrastructureError, UserError, quoted
from trainables.model.families import family_of
from trainables.sharing_keys import cohort_key, cohort_order
from trainables.spec import TrialSpec

BUDGET = ("eval_every_steps", "steps")
MIN_TRIALS = 3  # per engine on a CPU: fewer share too little work, more save no further time (docs/log.md)
MOST_SEATS = 24  # workers per engine: each takes 200 MB, and 24 equal trials already train at 3 times the speed of one
VARIABLE, MOST_DIGITS = "FOOTPRINT_THREADS", 6
LANGUAGE_WEIGHT = 0.5  # relative cost of a trial without vision adapters, which shares the layers below its adapters


@dataclass(frozen=True)
class Node:
    """A machine of a cluster: its id, its number of CPU cores and of GPUs, and its address."""

    name: str
    cores: int
    gpus: int = 0
    address: str = ""


@dataclass(frozen=True)
class EnginePlan:
    """An engine to start: the id of its node, and its number of threads."""

    node: str
    threads: int


def engine_plans(
    nodes: Sequence[Node], trials: int, max_threads: int | None = None, on_gpus: bool | None = None
) -> list[EnginePlan]:
    """Plan one engine per GPU, or without GPUs several per node, each for `MIN_TRIALS` or more trials.

    On a CPU, several engines with few threads finish sooner than one engine with many: the threads of a small matrix
    product wait for each other, and for other processes. A node without cores, like a head that only starts the others,
    gets no engine. `on_gpus` says whether the launch trains on GPUs; by default it does if a node has one.

    Raises:
        InfrastructureError: no node has a GPU or a core.
    """
    if on_gpus is None:
        on_gpus = any(node.gpus for node in nodes)
    offered = [node for node in nodes if (node.gpus if on_gpus else node.cores)]
    if not offered:
        raise InfrastructureError(
            f"a cluster must offer a GPU or a CPU core to train on, but its {len(nodes)} node(s) offer none",
            "start a worker (`min_workers: 1` in the cluster's file) and wait until `ray status` lists it under Active",
        )
    if on_gpus:
        every = [EnginePlan(node.name, _limited(max(1, node.cores // node.gpus), max_threads))
                 for node in offered for _ in range(node.gpus)]  # fmt: skip
        return every[: max(1, trials)]
    shares = -(-max(1, trials) // (MIN_TRIALS * len(offered)))
    counts = {node: min(node.cores, shares) for node in offered}
    return [
        EnginePlan(node.name, _limited(node.cores // count, max_threads))
        for node, count in counts.items()
        for _ in range(count)
    ]


def most_at_once(specs: Sequence[TrialSpec]) -> int:
    """Return how many trials can run at the same time: baselines run before all others."""
    baselines = sum(spec.placement.is_baseline for spec in specs)
    return max(baselines, len(specs) - baselines)


def _limited(threads: int, max_threads: int | None) -> int:
    """Return `threads`, at most `max_threads`."""
    return min(threads, max_threads or threads)


def threads_asked(environment: Mapping[str, str]) -> int | None:
    """Return the most threads of an engine that FOOTPRINT_THREADS asks for, None without it.

    OMP_NUM_THREADS says nothing about what the user wants: `ray up`, `ray exec` and Ray's workers set it to 1.

    Raises:
        UserError: the value is no whole number from 1 on.
    """
    text = environment.get(VARIABLE, "").strip()
    if not text:
        return None
    if not text.isdecimal() or not int(text[:MOST_DIGITS]):
        raise UserError(f"{VARIABLE} must be a whole number from 1 on, but got {quoted(text)}",
                        f"export {VARIABLE}=4, or unset {VARIABLE}")  # fmt: skip
    return int(text[:MOST_DIGITS])


def distribute(specs: Sequence[TrialSpec], engines: int) -> list[list[int]]:
    """Distribute trials (by index) over engines with similar cost for each; trials that share more stay together."""
    order = sorted(range(len(specs)), key=lambda index: _cohort_order(specs[index]))
    weights = [1.0 if specs[index].placement.vision else LANGUAGE_WEIGHT for index in order]
    middles = [done - weight / 2 for done, weight in zip(itertools.accumulate(weights), weights, strict=True)]
    parts: list[list[int]] = [[] for _ in range(engines)]
    total = sum(weights)
    for index, middle in zip(order, middles, strict=True):
        parts[int(middle * engines / total)].append(index)
    return parts


def groups(specs: Sequence[TrialSpec], engines: int, most: int) -> list[list[list[int]]]:
    """Return the groups of every engine: trials (by index) that can train together, at most `most` in each."""
    found: list[list[list[int]]] = []
    for share in distribute(specs, engines):
        kinds = itertools.groupby(share, key=lambda index: cohort_key(specs[index]))
        found.append([part for _, kind in kinds for part in split(list(kind), most)])
    return found


def split(trials: Sequence[int], most: int) -> list[list[int]]:
    """Split trials into consecutive parts of similar size, each of at most `most` trials."""
    count = -(-len(trials) // most)
    return [list(trials[len(trials) * n // count : len(trials) * (n + 1) // count]) for n in range(count)]


def cohorts(specs: Sequence[TrialSpec]) -> list[list[TrialSpec]]:
    """Group the trials that can train together; baselines do not train and are in no group."""
    kinds: dict[tuple[object, ...], list[TrialSpec]] = {}
    for spec in specs:
        if not spec.placement.is_baseline:
            kinds.setdefault(cohort_key(spec), []).append(spec)
    return list(kinds.values())


def describe(specs: Sequence[TrialSpec], max_trials: int | None, width: int | None = None) -> str:
    """Return a sentence on which trials train together, and which settings separate the cohorts.

    `max_trials` is asked for, and `width` is for how many there is memory; None without a limit.
    """
    kinds = cohorts(specs)
    if max_trials == 1:
        return f"{sum(map(len, kinds))} trials train alone (--cohort 1)."
    max_trials = min(filter(None, (max_trials, width)), default=None)
    if kinds and (family := family_of(kinds[0][0].base.path))[0].shared_forward is None:  # a plan has one base
        count = sum(map(len, kinds))
        return (
            f"{count} trial{'s train' if count != 1 else ' trains'} one after another on the base in memory: "
            f"trials of the model family {family[1]['model_type']} cannot share a pass."
        )
    sizes = ", ".join(f"{len(kind)} on {_named(kind, kinds)}" for kind in kinds)
    many = any(len(kind) > MOST_SEATS for kind in kinds)
    most = f", at most {max_trials or f'{MOST_SEATS} of an engine'} at once" if max_trials or many else ""
    reason = "; trials that differ in these settings cannot share a pass" if len(kinds) > 1 else ""
    return f"{len(kinds)} cohort{'s' * (len(kinds) != 1)}{most}: {sizes}{reason}."


def _named(kind: Sequence[TrialSpec], kinds: Sequence[Sequence[TrialSpec]]) -> str:
    keys = ("quantization", "compute_dtype", "data_seed", "batch_rows", "accumulation_steps",
            "batch_warmup_ratio", "max_tokens", "packed_tokens", *BUDGET)  # fmt: skip
    first = kind[0]
    differing = [key for key in keys if len({getattr(other[0], key) for other in kinds}) > 1]
    if not differing:
        return f"one base (quantization={first.quantization})"
    return " ".join(f"{key}={getattr(first, key)}" for key in differing)


def _cohort_order(spec: TrialSpec) -> tuple[object, ...]:
    return (cohort_key(spec), cohort_order(spec))
