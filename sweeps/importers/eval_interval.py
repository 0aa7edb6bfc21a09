"""Computes how often an imported trial evaluates."""

from __future__ import annotations

import math

from sweeps.importers.parsing import ParsedConfig
from sweeps.importers.setting import Setting

EVALS = 4  # when the configuration does not say how often to evaluate
LEAST_EVALS = 3  # needed for a guard to act
FIELDS = ("eval_steps", "evals_per_epoch", "eval_strategy")


def eval_interval(parsed: ParsedConfig, steps: int, epoch_steps: int) -> Setting:
    """Return the steps between evals: those of the file, else four evals unless the tool's default gives enough.

    Raises:
        UserError: the interval is not a whole number of steps or a share of the run.
    """
    every = _interval(parsed, steps, epoch_steps)
    source = parsed.origin(*FIELDS)
    written = bool({"eval_steps", "evals_per_epoch"} & parsed.fields.keys()) or (
        parsed.fields.get("eval_strategy") == "epoch"
    )
    past_the_end = every is not None and every > steps and "eval_steps" not in parsed.fields
    if every is None or past_the_end or (not written and math.ceil(steps / every) < LEAST_EVALS):
        few = f"; {source} would give {'none' if every is None else math.ceil(steps / every)}"
        return Setting("eval_every_steps", math.ceil(steps / EVALS), f"{EVALS} evals, because guards need them{few}")
    if every < 1 or every != int(every):
        raise parsed.error(
            "eval_steps",
            f"must be a whole number of at least 1, or a share of the run, but got {every}",
            "eval_steps: 0.25 gives four evals",
        )
    return Setting("eval_every_steps", min(int(every), steps), source)


def _interval(parsed: ParsedConfig, steps: int, epoch_steps: int) -> float | None:
    every, per_epoch, strategy = (parsed.value(name) for name in FIELDS)
    if parsed.fields.get("eval_strategy") == "epoch":
        return epoch_steps
    if per_epoch:  # axolotl turns it into a share of the run, and leaves out a share of 1 or more
        share = 1 / (per_epoch * parsed.value("epochs"))
        return math.ceil(share * steps) if share < 1 else None
    if parsed.fields.get("eval_strategy") == "no" or every == 0:
        return None
    if every is None:
        return epoch_steps if strategy == "epoch" else None
    return max(1, math.ceil(every * steps)) if 0 < every < 1 else every
