"""Who may train together: trials that share a base, a data order and a batch shape; without torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from trainables.company import cohort_key, neighbourhood
from trainables.spec import TrialSpec

BUDGET = ("eval_every_steps", "steps")


def shared_out(specs: Sequence[TrialSpec], engines: int) -> list[list[int]]:
    """Deal trials (by number) to engines in parts of like size; those that share most stay together."""
    order = sorted(range(len(specs)), key=lambda index: _neighbourhood(specs[index]))
    edges = [len(order) * number // engines for number in range(engines + 1)]
    return [order[low:high] for low, high in itertools.pairwise(edges)]


def cohorts(specs: Sequence[TrialSpec]) -> list[list[TrialSpec]]:
    """Return the trials that can train together, a list for each kind; baselines train nothing and are in none."""
    kinds: dict[tuple[object, ...], list[TrialSpec]] = {}
    for spec in specs:
        if not spec.placement.is_baseline:
            kinds.setdefault(cohort_key(spec), []).append(spec)
    return list(kinds.values())


def describe(specs: Sequence[TrialSpec], max_trials: int | None) -> str:
    """Say, for the plan, who trains together and what keeps the others apart."""
    kinds = cohorts(specs)
    if max_trials == 1:
        return f"{sum(map(len, kinds))} trials train alone (--cohort 1)."
    sizes = ", ".join(f"{len(kind)} on {_named(kind, kinds)}" for kind in kinds)
    most = f", at most {max_trials} at once" if max_trials else ""
    reason = "; they differ there, so they cannot share a pass" if len(kinds) > 1 else ""
    return f"{len(kinds)} cohort{'s' * (len(kinds) != 1)}{most}: {sizes}{reason}."


def _named(kind: Sequence[TrialSpec], kinds: Sequence[Sequence[TrialSpec]]) -> str:
    keys = ("quantization", "compute_dtype", "data_seed", "batch_rows", "accumulation_steps", "max_tokens", *BUDGET)
    first = kind[0]
    differing = [key for key in keys if len({getattr(other[0], key) for other in kinds}) > 1]
    if not differing:
        return f"one base (quantization={first.quantization})"
    return " ".join(f"{key}={getattr(first, key)}" for key in differing)


def _neighbourhood(spec: TrialSpec) -> tuple[object, ...]:
    return (cohort_key(spec), neighbourhood(spec))
