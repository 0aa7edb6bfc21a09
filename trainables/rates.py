"""Chooses the rate of an arm from its pilots: short trials at three rates, compared on the same validation rows.

All functions but the readers of files are pure functions of losses by row.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trainables.errors import holds_password, quoted
from trainables.io.files import FileDamaged, read_json
from trainables.probes.metric import RowResults
from trainables.record import Record
from trainables.spec import Frozen

RATE_STEP = 2.15  # neighbouring rates differ by it; two steps are 4.6 times the rate
LOSS = "eval_loss"
REPLACED = ("--lr", "--only", "--notify")  # options of a launch, with their values, that its further rates do not keep
HIDDEN = "://***@"  # what `redacted` leaves of a user and a password
DROPPED = ("--recommended", "--resume", "--sync", "--dry-run", "--steal", "--fresh-baseline")
ARMS = "pilots.json"  # of an experiment: the arms with pilots, their trials, and the command that asked for them
RATES = "rates.json"  # of an experiment: the choices, by the id of the arm's middle pilot
MIDDLE = 1


@dataclass(frozen=True)
class PilotResult:
    """What a pilot at `rate` measured: the loss of each validation row, None with the reason why there is none."""

    rate: float
    losses: RowResults | None
    lost: str = ""


class TriedRate(Frozen):
    """A rate, and the validation loss of its pilot in nats per token; None with the reason why there is none."""

    rate: float
    loss: float | None
    lost: str = ""


class RateChoice(Frozen):
    """The rate of an arm and what decided it; `chosen` is None if every pilot is without a loss.

    `arm` is the name of its trials without the seed, `study_arm` that of the arm in the study.

    `gain` is by how much the lowest loss lies below that of the middle rate, `standard_error` that of the difference,
    paired on `rows` rows; all are None if the middle rate has the lowest loss, or none.
    """

    arm: str
    study_arm: str
    tried: tuple[TriedRate, ...]
    chosen: float | None
    gain: float | None = None
    standard_error: float | None = None
    rows: int | None = None

    @property
    def is_at_edge(self) -> bool:
        """True when the lowest or the highest of the rates was chosen, so that one beyond may be better still."""
        return self.chosen in (self.tried[0].rate, self.tried[-1].rate)


def paired_difference(one: RowResults, other: RowResults) -> tuple[float, float]:
    """Return the difference of two means over the same rows, and its standard error.

    Rows count by their weights, so that the difference is that of the means; of a weighted mean the error is that of a
    ratio estimator (Cochran, Sampling Techniques, 1977, 2.11). With a single row it is infinite.

    Raises:
        ValueError: the two have other rows or other weights.
    """
    if one.values.keys() != other.values.keys() or one.weights != other.weights:
        raise ValueError("a paired difference needs the same rows with the same weights, but they differ")
    weights = one.weights or dict.fromkeys(one.values, 1.0)
    total, count = sum(weights.values()), len(one.values)
    by_row = {row: value - other.values[row] for row, value in one.values.items()}
    mean = sum(weights[row] * value for row, value in by_row.items()) / total
    if count < 2:
        return mean, math.inf
    squares = sum((weights[row] * (value - mean)) ** 2 for row, value in by_row.items())
    return mean, math.sqrt(squares * count / (count - 1)) / total


def choose_rate(arm: str, pilots: Sequence[PilotResult], study_arm: str = "") -> RateChoice:
    """Choose the rate with the lowest validation loss; the middle one stays while it is within one standard error.

    A pilot without a loss loses. `pilots` are in order of their rates.
    """
    tried = tuple(TriedRate(rate=one.rate, loss=_loss(one), lost=one.lost) for one in pilots)
    found = partial(RateChoice, arm=arm, study_arm=study_arm or arm, tried=tried)
    ended = [one for one in pilots if one.losses is not None]
    if not ended:
        return found(chosen=None)
    lowest, middle = min(ended, key=lambda one: one.losses.mean), pilots[MIDDLE]  # type: ignore[union-attr] ended
    if lowest is middle or middle.losses is None or lowest.losses is None:
        return found(chosen=lowest.rate)
    gain, error = paired_difference(middle.losses, lowest.losses)
    return found(
        chosen=lowest.rate if gain > error else middle.rate,
        gain=gain,
        standard_error=error if math.isfinite(error) else None,
        rows=len(middle.losses.values),
    )


def _loss(pilot: PilotResult) -> float | None:
    return None if pilot.losses is None else pilot.losses.mean


def result_of(record: Record) -> PilotResult:
    """Return what an ended pilot measured at its last step."""
    spec, verdict = record.spec(), record.verdict()
    last = next((one for one in record.evals() if one.step == spec.last_step), None)
    if last is not None and verdict is not None and verdict.kind in ("completed", "pruned"):
        return PilotResult(spec.learning_rate, last.rows[LOSS])  # a guard that stops it there has nothing to save
    why = f"{verdict}: {verdict.reason}" if verdict and verdict.reason else str(verdict)
    return PilotResult(spec.learning_rate, None, why)


# -------------------------------------------------------------------- words
def choice_text(choice: RateChoice) -> str:
    """Return in one sentence which rate an arm trains with, and why."""
    tried = ", ".join(_tried_text(one) for one in choice.tried)
    if choice.chosen is None:
        return f"{choice.arm}: no rate ended its pilot ({tried}); the arm is not trained."
    edge = f", the {_side(choice)} of the three" if choice.is_at_edge else ""
    return f"{choice.arm}: rate {choice.chosen:.3g}{edge}{_why(choice)} (losses: {tried})."


def _tried_text(one: TriedRate) -> str:
    return f"{one.rate:.3g} {f'{one.loss:.4f}' if one.loss is not None else f'none, {one.lost}'}"


def _side(choice: RateChoice) -> str:
    return "lowest" if choice.chosen == choice.tried[0].rate else "highest"


def _why(choice: RateChoice) -> str:
    if choice.gain is None:
        return ""
    error = "unknown" if choice.standard_error is None else f"{choice.standard_error:.4f}"
    if choice.chosen == choice.tried[MIDDLE].rate:
        return f", for the lowest loss is only {choice.gain:.4f} lower, within its standard error of {error}"
    return f", {choice.gain:.4f} nats below the middle rate, standard error {error} over {choice.rows} rows"


def further_text(choice: RateChoice, command: str) -> str:
    """Return what to try further for an arm whose rate is at the edge or not known; empty for one between two rates.

    Args:
        command: what started the launch, as a shell reads it; an address with a password is left out.
    """
    if choice.chosen is not None and not choice.is_at_edge:
        return ""
    middle = choice.chosen or choice.tried[0].rate / RATE_STEP
    words = _with_rates(shlex.split(command), choice.study_arm, f"auto:{middle:.6g}")
    better = "a lower" if middle <= choice.tried[0].rate else "a higher"
    may = "may be better still" if choice.chosen else "may train"
    return f"{choice.arm}: {better} rate {may}; try with: {shlex.join(words)}"


def _with_rates(words: Sequence[str], arm: str, rates: str) -> list[str]:
    secret = ("--tracking-uri",) if any(HIDDEN in word or holds_password(word) for word in words) else ()
    replaced, kept, skip = (*REPLACED, *secret), [], False
    for word in words:
        name, equals, _ = word.partition("=")
        if not skip and name not in (*replaced, *DROPPED):
            kept.append(word)
        skip = not skip and name in replaced and not equals
    return [*kept, "--only", arm, "--lr", rates]


# -------------------------------------------------------------------- files
def further_texts(experiment: Path) -> list[str]:
    """Return what to try further for the arms of an experiment; empty if no pilots chose their rates.

    Raises:
        FileDamaged: a file is not as it was written.
    """
    choices = read_choices(experiment)
    if not choices:
        return []
    kept = read_json(experiment / ARMS)
    command = str(kept.get("command", "")) if isinstance(kept, dict) else ""
    return [text for one in choices.values() if (text := further_text(one, command))]


def read_choices(experiment: Path) -> dict[str, RateChoice]:
    """Read the rates that were chosen in an experiment, by the id of the middle pilot; empty if none were.

    Raises:
        FileDamaged: the file is not as it was written.
    """
    path = experiment / RATES
    if not path.exists():
        return {}
    kept = read_json(path)
    try:
        return TypeAdapter(dict[str, RateChoice]).validate_python(kept)
    except ValidationError:
        hint = f"delete {path}: the rates are chosen again from the pilots"
        raise FileDamaged(f"{path}: rates must be as they were written, but got {quoted(kept)}", hint) from None


def choices_as_json(choices: Mapping[str, RateChoice]) -> dict[str, Any]:
    """Return choices as plain values, which `read_choices` reads."""
    return {key: one.model_dump(mode="json") for key, one in choices.items()}
