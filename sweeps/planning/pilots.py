"""Pilots: short trials at three rates, from which each arm gets its own (`--lr auto`).

An arm is everything but the seed: each placement, rank, quantization and mix has pilots of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeps.study import Study
from trainables.errors import UserError, items, named
from trainables.rates import RATE_STEP, RateChoice
from trainables.schedule import warmup_steps
from trainables.spec import RESTART, TrialSpec
from trainables.typed import typed

AUTO = "auto"
PILOT_SHARE = 0.25  # of the schedule
FACTORS = (1 / RATE_STEP, 1.0, RATE_STEP)
LEAST_STEPS = 4


@dataclass(frozen=True)
class PilotArm:
    """An arm whose rate is not known: its trials, one a seed, at the middle rate, and its pilots by rate."""

    trials: tuple[TrialSpec, ...]
    pilots: tuple[TrialSpec, ...]

    @property
    def key(self) -> str:
        """Return the id of the middle pilot, under which the choice is kept."""
        return self.pilots[FACTORS.index(1.0)].trial_id

    @property
    def name(self) -> str:
        """Return the name of the arm's first trial without its seed."""
        first = self.trials[0]
        return "-".join(part for part in first.name.split("-") if part != f"s{first.seed}")

    @property
    def study_arm(self) -> str:
        """Return the name of the arm in the study, which `--only` takes."""
        return self.trials[0].arm.removesuffix(RESTART)


def parse_rates(text: str) -> tuple[bool, tuple[float, ...]]:
    """Read `--lr`: whether pilots choose the rate, and the rates; `auto:3e-4` tries rates around 3e-4.

    Raises:
        UserError: it is no list of numbers, or `auto` is given together with rates.
    """
    words = items(text, "--lr", "1e-4,3e-4")
    if not any(word.partition(":")[0] == AUTO for word in words):
        return False, tuple(_rate(word, text) for word in words)
    if len(words) > 1:
        rate = next((word for word in words if word.partition(":")[0] != AUTO), "1e-4")
        raise UserError(
            f"--lr must be auto or rates, but got `{named(text)}`: with auto, pilots choose the rate of each arm",
            f"--lr auto:{rate} tries {rate} and the rates around it; --lr {rate} trains at it",
        )
    _, colon, middle = text.strip().partition(":")
    return True, (_rate(middle, text),) if colon else ()


def _rate(word: str, text: str) -> float:
    try:
        return float(word)
    except ValueError:
        what = f"--lr must be comma-separated numbers, or auto, but got `{named(text)}`"
        raise UserError(what, "--lr 1e-4,3e-4, --lr auto or --lr auto:3e-4") from None


def check_study(study: Study) -> None:
    """Refuse pilots for a study that varies the rate itself.

    Raises:
        UserError: naming the study.
    """
    if study.rate_factors or study.learning_rates:
        raise UserError(
            f"--lr auto chooses one rate for each arm, but study {study.name} varies the rate itself",
            f"leave out --lr, or choose rates with `{typed('stage4', '--lr', 'auto')}`",
        )


def pilot_arms(specs: Sequence[TrialSpec], keeps_vision_rate: bool = False) -> tuple[PilotArm, ...]:
    """Return the arms of trials that are all at their middle rate, with their pilots.

    Pilots have the first seed and end after a quarter of the schedule, where their only eval is. The vision rate keeps
    its ratio, unless the launch fixes it.

    Raises:
        UserError: a schedule is too short to be cut.
    """
    trained = [spec for spec in specs if not spec.placement.is_baseline]
    arms: dict[str, list[TrialSpec]] = {}
    for spec in trained:
        arms.setdefault(_arm_key(spec), []).append(spec)
    seeds = [tuple(sorted(trials, key=lambda spec: spec.seed)) for trials in arms.values()]
    return tuple(
        PilotArm(trials, tuple(_pilot(trials[0], factor, keeps_vision_rate) for factor in FACTORS)) for trials in seeds
    )


def _arm_key(spec: TrialSpec) -> str:
    return spec.model_copy(update={"seed": 0}).trial_id


def _pilot(spec: TrialSpec, factor: float, keeps_vision_rate: bool) -> TrialSpec:
    if spec.steps < LEAST_STEPS:
        raise UserError(
            f"--lr auto tries rates on the first quarter of the steps, so there must be at least {LEAST_STEPS}, but "
            f"{spec.name} has {spec.steps}",
            "train longer, or choose a rate: --lr 1e-4",
        )
    steps, rate = round(PILOT_SHARE * spec.steps), spec.learning_rate * factor
    vision = spec.vision_learning_rate
    vision = vision if keeps_vision_rate else vision * rate / spec.learning_rate  # as if the rate were given
    name = f"{spec.name}-lr{rate:.3g}-pilot"
    return spec.model_copy(
        update={
            "name": name,
            "learning_rate": rate,
            "vision_learning_rate": vision,
            "pilot_steps": steps,
            "eval_every_steps": steps,
        }
    )


def with_chosen(arm: PilotArm, choice: RateChoice | None) -> list[TrialSpec]:
    """Return the trials of an arm at the chosen rate; without one at the middle rate."""
    pilot = next((one for one in arm.pilots if choice and one.learning_rate == choice.chosen), None)
    if pilot is None:
        return list(arm.trials)
    rates = {"learning_rate": pilot.learning_rate, "vision_learning_rate": pilot.vision_learning_rate}
    return [spec.model_copy(update=rates) for spec in arm.trials]


def at_chosen_rates(
    specs: Sequence[TrialSpec], arms: Sequence[PilotArm], choices: Mapping[str, RateChoice]
) -> list[TrialSpec]:
    """Return trials in their order, those of arms whose rate is chosen at that rate."""
    chosen = {
        planned.trial_id: spec
        for arm in arms
        for planned, spec in zip(arm.trials, with_chosen(arm, choices.get(arm.key)), strict=True)
    }
    return [chosen.get(spec.trial_id, spec) for spec in specs]


def undecided(arms: Sequence[PilotArm], choices: Mapping[str, RateChoice]) -> list[PilotArm]:
    """Return the arms whose rate is not chosen yet."""
    return [arm for arm in arms if arm.key not in choices]


def pilots_of(arms: Sequence[PilotArm]) -> list[TrialSpec]:
    """Return the pilots of arms."""
    return [pilot for arm in arms for pilot in arm.pilots]


def pilots_text(arms: Sequence[PilotArm]) -> str:
    """Return the sentences of a plan on pilots, with what they cost; empty without any."""
    if not arms:
        return ""
    pilots = pilots_of(arms)
    steps, full = sum(one.last_step for one in pilots), sum(one.steps for arm in arms for one in arm.trials)
    rates = "; ".join(f"{arm.name}: {', '.join(f'{one.learning_rate:.3g}' for one in arm.pilots)}" for arm in arms[:4])
    more = f"; and {len(arms) - 4} more arms" if len(arms) > 4 else ""
    text = (
        f"Rates are chosen after {len(pilots)} pilots at seed {pilots[0].seed} ({rates}{more}): each trains the first "
        f"quarter of the schedule, {_steps(pilots)} steps, {steps:,} in all beside {full:,} of the trials, with one "
        "eval each. The lowest validation loss decides, paired on rows; within one standard error the middle rate "
        "stays. Pilots are no results: they are in no frontier, table or conclusion, and not in MLflow."
    )
    one = pilots[0]
    if warmup_steps(one.steps, one.warmup_ratio) >= one.last_step:
        text += " A pilot ends before warm-up does, so none trains at its rate: lower warmup_ratio."
    return text


def _steps(pilots: Sequence[TrialSpec]) -> str:
    counts = sorted({one.last_step for one in pilots})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
