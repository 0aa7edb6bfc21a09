"""Finds trials that left both a parent within the constraint and one outside it, for the study of continuations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.effects.design import Observation
from analysis.options import storage_words
from trainables.constraint import CONSTRAINT, applicable_constraint
from trainables.record import Record
from trainables.typed import typed

MOST_PARENTS = 5
LANGUAGE, VISION = range(1, 5), range(7)  # the placements of `sweeps.continuation`


def continuation_commands(
    among: Sequence[Observation], baseline: Mapping[str, float], store: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return a command for each of up to five trials, of different seeds first, whose record holds both parents.

    The stable parent is the best checkpoint, which met the constraint; the lost one is the last checkpoint of a trial
    whose last eval is outside it. Each has an experiment of its own, by which its two continued trials are a pair.
    `store` are the words that name the MLflow store.
    """
    constraint = applicable_constraint(CONSTRAINT, baseline)
    lost = [
        one
        for one in among
        if one.trial.best
        and one.language in LANGUAGE
        and one.vision in VISION
        and all(name in one.last.metrics and name in baseline for name in constraint.needs)
        and not constraint.admits(baseline, one.last.metrics)
    ]
    by_seed = {one.seed: one for one in reversed(lost) if _parents(one)}
    return tuple(_command(one, store) for one in list(by_seed.values())[:MOST_PARENTS])


def _parents(one: Observation) -> tuple[Path, Path] | None:
    if not one.trial.record:
        return None
    record = Record(Path(one.trial.record))
    best, last = record.directory / "best", record.checkpoint(one.last.step)
    return (best, last) if best.is_dir() and last.is_dir() else None


def _command(one: Observation, store: Sequence[str]) -> str:
    parents = _parents(one)
    assert parents is not None
    words = ["--only", f"L{one.language}V{one.vision}"]
    words += ["--rank", f"{one.rank:g}", "--quant", one.quantization]
    words += ["--init-from", str(parents[0]), "--restart-from", str(parents[1])]
    words += [*storage_words(parents[0].parents[3]), *store]
    return typed("continuation", *words, "--experiment", f"continuation-{one.trial.name}")
