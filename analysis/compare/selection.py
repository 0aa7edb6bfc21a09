"""Finds the two sides of a comparison by name, and the rows that both of them answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.candidates import FULL_STRENGTH, Candidate, SeedEval, candidates_of
from analysis.printed_commands import sync_command
from trainables.errors import UserError, named, nearest

if TYPE_CHECKING:
    from analysis.mlflow_runs import ExperimentRuns
    from analysis.placements import PlacementRuns
    from trainables.record import Measurement


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a candidate with the name it was given by, and its baseline."""

    given: str
    candidate: Candidate
    baseline: Candidate | None

    @property
    def is_baseline(self) -> bool:
        """True for the baseline itself, which no seed changes."""
        return self.baseline is not None and self.candidate.arm == self.baseline.arm


@dataclass(frozen=True)
class Candidates:
    """The candidates of an experiment, and the names by which a user finds them."""

    experiment: str
    placements: tuple[PlacementRuns, ...]
    candidates: tuple[Candidate, ...]
    store: tuple[str, ...] = ()  # the words of a command that name the MLflow store

    def of_arm(self, label: str) -> tuple[Candidate, ...]:
        """Return the candidates of a placement."""
        return tuple(one for one in self.candidates if one.arm == label)

    def baseline_of(self, candidate: Candidate) -> Candidate | None:
        """Return the baseline of the same quantization, or None."""
        quantization = candidate.evals[0].trial.parameters.get("quantization")
        labels = {one.label for one in self.placements if one.is_baseline}
        found = [one for one in self.candidates if one.arm in labels]
        same = [one for one in found if one.evals[0].trial.parameters.get("quantization") == quantization]
        return same[0] if same else None


def candidates_in(
    experiment: ExperimentRuns,
    placements: Sequence[PlacementRuns],
    measured: Mapping[str, Sequence[Measurement]],
    store: Sequence[str] = (),
) -> Candidates:
    """Return the candidates of an experiment."""
    found = [one for placement in placements for one in candidates_of(placement, measured)]
    return Candidates(experiment.name, tuple(placements), tuple(found), tuple(store))


def side_of(text: str, among: Candidates) -> Side:
    """Find a candidate by arm, by `C2 @ 60`, or by the name or id of a trial.

    An arm stands for the last step that every one of its seeds reached, a trial for its last eval.

    Raises:
        UserError: there is no such candidate, or it was not measured; the nearest name is given.
    """
    if not among.candidates:
        raise UserError(
            f"a comparison needs the measurements of each eval, but MLflow has none of `{among.experiment}`",
            f"copy them from the records: {sync_command(among.experiment, among.store)}",
        )
    words = " ".join(text.split())
    known = _by_name(among)
    if words not in known:
        raise UserError(
            f"A and B must be an arm, an arm at a step or a trial of `{among.experiment}`, but got `{named(words)}`",
            f"{nearest(words, known)} (a step is named as `C2 @ 60`)",
        )
    candidate = known[words]
    return Side(words, candidate, among.baseline_of(candidate))


def _by_name(among: Candidates) -> dict[str, Candidate]:
    found: dict[str, Candidate] = {}
    for candidate in among.candidates:
        for one in candidate.evals:
            alone = Candidate(one.trial.name, candidate.step, candidate.scale, (one,))
            found[alone.name] = alone
            if candidate.scale == FULL_STRENGTH:  # candidates are in order of step: the last one stays
                found[one.trial.name] = found[one.trial.trial_id] = alone
    for placement in among.placements:
        of_arm = among.of_arm(placement.label)
        found |= {one.name: one for one in of_arm}
        if last := _last_whole(of_arm):
            found[placement.label] = last
    return found


def _last_whole(of_arm: Sequence[Candidate]) -> Candidate | None:
    """Return the newest candidate at full strength that has the most seeds."""
    full = [one for one in of_arm if one.scale == FULL_STRENGTH]
    return max(full, key=lambda one: (len(one.evals), one.step), default=None)


# ------------------------------------------------------------------- rows
@dataclass(frozen=True)
class SharedRows:
    """The rows of one metric that all evals of both sides have, and how many only some have."""

    rows: tuple[str, ...]
    left_out: int


def shared_rows(metric: str, evals: Sequence[SeedEval]) -> SharedRows:
    """Return the rows of `metric` that every eval answered; without any there is nothing to compare."""
    sets = [set(one.rows[metric].values) if metric in one.rows else set() for one in evals]
    common = set.intersection(*sets)
    return SharedRows(tuple(sorted(common)), len(set.union(*sets) - common))


def check_same_files(files_a: Mapping[str, str], files_b: Mapping[str, str], names: tuple[str, str]) -> None:
    """Refuse two sides that answered different files: equal row ids would not mean equal rows.

    Args:
        files_a: what A answered: `validation` and `ood` with the digest of the file.
        files_b: the same of B.
        names: what A and B are called.

    Raises:
        UserError: a file differs.
    """
    different = [key for key in files_a if key in files_b and files_a[key] != files_b[key]]
    if different:
        digests = "; ".join(f"{key} {files_a[key][:8]} and {files_b[key][:8]}" for key in different)
        raise UserError(
            f"A and B must have answered the same rows, but those of {names[0]} and {names[1]} differ: {digests}",
            "launch one of them again with the --val and --ood of the other",
        )
