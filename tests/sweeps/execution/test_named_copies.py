"""Tests that a candidate is measured on all of its seeds or not at all, and never holds up the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from planned_trials import trial

from sweeps.execution.experiment import Experiment
from sweeps.execution.later_evals import EndedExperiment
from sweeps.execution.named_copies import copies_named
from trainables.derived.candidate_name import parse_candidate
from trainables.errors import UserError
from trainables.measurement import Measurement
from trainables.record import Record

STEPS = (24, 48, 72)


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., EndedExperiment]:
    """An experiment of one arm whose seeds, in order, have evals at `STEPS` and keep the adapters of some."""
    kept_by: dict[Path, frozenset[int]] = {}
    monkeypatch.setattr(
        Record, "adapter_at", lambda one, step: one.directory if step in kept_by[one.directory] else None
    )

    def build(*kept: tuple[int, ...], evals: tuple[tuple[int, ...], ...] = ()) -> EndedExperiment:
        records = []
        for seed, steps in enumerate(kept):
            record = Record(tmp_path / f"C2-{seed}")
            record.create(trial(name=f"C2-s{seed}", seed=seed))
            for step in evals[seed] if evals else STEPS:
                record.append(Measurement("eval", step, {"exact_match": 0.5}))
            kept_by[record.directory] = frozenset(steps)
            records.append(record)
        return EndedExperiment(Experiment(tmp_path), tuple(records), {})

    return build


def named(ended: EndedExperiment, *texts: str) -> tuple[dict[str, list[int]], list[str]]:
    lines: list[str] = []
    found = copies_named(ended, [parse_candidate(text) for text in texts], lines.append)
    return {str(name): [one.record.spec().seed for one in copies] for name, copies in found.items()}, lines


def test_a_candidate_that_one_seed_does_not_keep_is_skipped_and_the_others_go_on(
    experiment: Callable[..., EndedExperiment],
) -> None:
    ended = experiment(STEPS, (48,))
    found, lines = named(ended, "C2 @ 72", "C2 @ 48", "C2 @ 72 average", "C2 @ 24 x 0.5")
    assert found == {"C2 @ 48": [0, 1]}
    assert lines == [
        "skipped 'C2 @ 72': seed 1 keeps no adapter of this step",
        "skipped 'C2 @ 72 average': seed 1 keeps no adapter of step 24, 72",
        "skipped 'C2 @ 24 x 0.5': seed 1 keeps no adapter of this step",
    ]
    assert named(ended, "C2-s0 @ 72") == ({"C2-s0 @ 72": [0]}, [])  # one trial by its name needs no other


def test_a_seed_that_was_stopped_before_a_step_is_no_seed_of_it(experiment: Callable[..., EndedExperiment]) -> None:
    ended = experiment(STEPS, (), evals=(STEPS, (24,)))
    assert named(ended, "C2 @ 72", "C2 @ 72 average") == ({"C2 @ 72": [0], "C2 @ 72 average": [0]}, [])
    with pytest.raises(UserError, match="an average is that of the last 3 evals"):
        named(ended, "C2 @ 24 average")


def test_nothing_left_is_an_error(experiment: Callable[..., EndedExperiment]) -> None:
    ended = experiment(STEPS, (72,))
    with pytest.raises(UserError, match="adapters of `C2 @ 72 average`, but seed 1 keeps no adapter of step 24, 48"):
        named(ended, "C2 @ 72 average", "C2 @ 24")
    with pytest.raises(UserError, match="must be of an arm with a result, but got `C9`"):
        named(ended, "C2 @ 72", "C9 @ 72")
