"""What is known of the pick on held-out rows, which no eval of a trial asks: measured, not yet, or none are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from analysis.candidates import Candidate, SeedEval
from analysis.decision.judged import Interval, measured_alone
from analysis.decision.pick import Pick
from analysis.mlflow_runs import ExperimentRuns
from analysis.placements import recorded
from trainables.record import HOLDOUT_FILE, Measurement, Record

State = Literal["measured", "not measured", "none", "unknown"]
NOT_KNOWN: Mapping[State, str] = {
    "not measured": "Rows are held out, but the pick is not measured on them yet.",
    "none": "No rows were held out: with --test and --ood-test the study measures its pick on rows that chose nothing.",
    "unknown": "Whether rows were held out is not known: the study's records are not on this machine.",
}


@dataclass(frozen=True)
class HoldoutValue:
    """One metric of the pick: on the rows that chose it, on those held out, and the base alone on those held out."""

    metric: str
    chosen_on: Interval
    held_out: Interval
    rows: int
    baseline: float | None


@dataclass(frozen=True)
class HoldoutFindings:
    """Whether the pick was measured on held-out rows, and its values there over `seeds` seeds."""

    state: State
    seeds: int = 0
    values: tuple[HoldoutValue, ...] = ()


def holdout_of(
    study: ExperimentRuns, choice: Pick, measured: Mapping[str, Sequence[Measurement]]
) -> HoldoutFindings | None:
    """Return what is known of the pick on held-out rows, None where nothing is picked.

    Args:
        study: the runs.
        choice: what was picked.
        measured: the evals on the holdout by run id, as `read_logged` returns them.
    """
    if choice.picked is None:
        return None
    picked = choice.picked.candidate
    evals = tuple(_evals_of(picked, measured))
    if not evals:
        return HoldoutFindings(_state(study, measured))
    held_out = Candidate(picked.arm, picked.step, picked.scale, evals)
    base = choice.picked.contender.baseline
    alone = [one for each in (base.evals if base else ()) for one in measured.get(each.trial.run_id, ())]
    values = []
    for name, chosen_on in choice.picked.estimates.items():
        found = measured_alone(held_out, name)
        if found is not None:
            rows = len(evals[0].rows[name].values) if name in evals[0].rows else 0
            values.append(HoldoutValue(name, chosen_on, found, rows, alone[-1].metrics.get(name) if alone else None))
    return HoldoutFindings("measured", len(evals), tuple(values))


def sentences(found: HoldoutFindings | None) -> list[str]:
    """Return what the holdout says of the pick, beside the estimates of the rows that chose it."""
    if found is None or not found.values:
        return []
    values = []
    for one in found.values:
        alone = "" if one.baseline is None else f", the base alone {one.baseline:.3f}"
        values.append(f"{one.metric} {_text(one.held_out)} against {one.chosen_on.mean:.3f} where it was chosen{alone}")
    seeds = f"{found.seeds} seed{'s' if found.seeds > 1 else ''}"
    return [f"On held-out rows, which chose nothing ({seeds}): {'; '.join(values)}."]


def unknown(found: HoldoutFindings | None) -> list[str]:
    """Return what is not known because the pick was not measured on held-out rows."""
    return [NOT_KNOWN[found.state]] if found is not None and found.state in NOT_KNOWN else []


def _evals_of(picked: Candidate, measured: Mapping[str, Sequence[Measurement]]) -> Iterator[SeedEval]:
    for each in picked.evals:
        same = [one for one in measured.get(each.trial.run_id, ())
                if (one.step, one.scale) == (picked.step, picked.scale)]  # fmt: skip
        if same:
            yield SeedEval(each.trial, each.seed, same[-1])


def _state(study: ExperimentRuns, measured: Mapping[str, Sequence[Measurement]]) -> State:
    records = [record for trial in study.trials if (record := recorded(trial)) is not None]
    if any(measured.values()) or any(map(_is_held_out, records)):
        return "not measured"
    return "none" if records else "unknown"


def _is_held_out(record: Record) -> bool:
    return (record.home.parent.parent / HOLDOUT_FILE).exists()


def _text(value: Interval) -> str:
    bounds = "" if value.low is None or value.high is None else f" [{value.low:.3f}, {value.high:.3f}]"
    return f"{value.mean:.3f}{bounds}"
