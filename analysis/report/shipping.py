"""Sentences about what to ship by the results by row: the pick, its seed, how sure it is, and what would change it."""

from __future__ import annotations

from analysis.decision.judged import Interval, Judged
from analysis.decision.pick import Pick


def shipping(choice: Pick) -> list[str]:
    """Return what to ship, how sure that is, and what would change it."""
    if choice.picked is None or choice.shipped is None:
        return [_nothing(choice)]
    picked, shipped = choice.picked, choice.shipped
    sentences = [
        f"Ship {picked.name}, seed {shipped.chosen.seed}: {_both(picked, choice)}; a new seed meets the constraint "
        f"with probability {picked.admissible:.2f}, {picked.seeds_admissible} of {picked.seeds} seeds did, the "
        f"shipped one does with probability {shipped.admissible:.2f}"
        + ("." if shipped.reaches_level else f", which is below {choice.level:g}: no seed reaches it alone.")
    ]
    sentences += doubted_gain(picked, choice)
    if len(choice.alike) > 1:
        fits = [one.name for one in choice.alike if one is not picked]
        sentences.append(
            f"It is the most general of {len(choice.alike)} candidates that are not separable from the best in "
            f"{choice.fit.name}: {', '.join(fits[:3])}{f' and {len(fits) - 3} more' if len(fits) > 3 else ''}."
        )
    if choice.corrected:
        values = ", ".join(f"{name} {value:.3f}" for name, value in choice.corrected.items())
        sentences.append(f"On rows that did not choose it, the same choice among {len(choice.judged)} scores {values}.")
    return [*sentences, *choice.would_change]


def doubted_gain(picked: Judged, choice: Pick) -> list[str]:
    """Return a sentence where the gain over the base alone is not shown, else nothing."""
    gain = picked.gain
    if gain is None or (gain.low is not None and gain.low > 0):
        return []
    return [f"That it fits better than the base alone is not shown: {choice.fit.name} {_text(gain)} over it."]


def _nothing(choice: Pick) -> str:
    near = "; ".join(miss(one) for one in choice.nearest)
    return f"Ship nothing yet: no candidate meets the constraint with probability {choice.level:g} on a new seed. " + (
        f"Nearest: {near}." if near else "No candidate gains over the baseline."
    )


def miss(one: Judged) -> str:
    """Return a candidate with the rows and the probability by which it misses the constraint."""
    chance = "unknown" if one.admissible is None else f"{one.admissible:.2f}"
    rows = f"{one.rows_short} row{'' if one.rows_short == 1 else 's'} short" if one.rows_short else "its mean meets it"
    return f"{one.name} ({rows}, probability {chance})"


def _both(one: Judged, choice: Pick) -> str:
    return ", ".join(f"{metric.name} {_text(one.estimates[metric.name])}" for metric in (choice.fit, choice.generality))


def _text(found: Interval) -> str:
    if found.low is None or found.high is None:
        return f"{found.mean:.3f}"
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"
