"""Sentences about what to ship by the results by row: the pick, its seed, how sure it is, and what would change it."""

from __future__ import annotations

from analysis.decision.finalists import not_asked
from analysis.decision.judged import Interval, Judged, shows_gain
from analysis.decision.pick import Pick
from analysis.decision.settled import ACCEPTED, MARGIN
from analysis.probabilities import chance


def shipping(choice: Pick) -> list[str]:
    """Return what to ship, how sure that is, and what would change it."""
    if choice.picked is None or choice.shipped is None:
        return [_nothing(choice)]
    picked, shipped = choice.picked, choice.shipped
    assert picked.admissible is not None
    sentences = [
        *undecided(choice),
        f"{'Ship' if choice.is_settled else 'As of now, ship'} {picked.name}, seed {shipped.chosen.seed}: "
        f"{_both(picked, choice)}; a new seed meets the constraint "
        f"with probability {chance(picked.admissible, choice.level)}, {picked.seeds_admissible} of {picked.seeds} "
        f"seeds did, the shipped one does with probability {chance(shipped.admissible, choice.level)}"
        + ("." if shipped.reaches_level else f", which is below {choice.level:g}: no seed reaches it alone."),
    ]
    if len(choice.alike) > 1:
        fits = [one.name for one in choice.alike if one is not picked]
        sentences.append(
            f"It is the most general of {len(choice.alike)} candidates that are not separable from the best in "
            f"{choice.fit.name}: {', '.join(fits[:3])}{f' and {len(fits) - 3} more' if len(fits) > 3 else ''}."
        )
    return [*sentences, *corrected(choice), *settled(choice), *choice.would_change]


def corrected(choice: Pick) -> list[str]:
    """Return the sentence on what the choice is worth on rows that did not choose it, else nothing.

    The choice is repeated, so it is worth more than the pick where other rows lead to better candidates.
    """
    if not choice.corrected or choice.picked is None:
        return []
    values = ", ".join(f"{name} {value:.3f}" for name, value in choice.corrected.items())
    found = f"On rows that did not choose it, the same choice among {len(choice.judged)} scores {values}"
    fit = choice.fit.name
    if fit in choice.corrected and choice.fit.better(choice.corrected[fit], choice.picked.estimates[fit].mean):
        return [f"{found}; it fits better than {choice.picked.name} because other rows choose other candidates."]
    return [f"{found}."]


def undecided(choice: Pick) -> list[str]:
    """Return the sentence that warns of a pick that more data is likely to change, else nothing."""
    if choice.changes is None or choice.is_settled:
        return []
    likely = chance(choice.changes, ACCEPTED, is_most=True)
    return [f"Undecided: with probability {likely}, more rows or seeds lead to another pick."]


def settled(choice: Pick) -> list[str]:
    """Return the sentence on a pick that more data is unlikely to change, else nothing."""
    if choice.changes is None or not choice.is_settled:
        return []
    likely = chance(choice.changes, ACCEPTED, is_most=True)
    found = f"More rows or seeds lead to another pick with probability {likely}"
    if choice.picked is not None and choice.picked.seeds == 1:
        found += ", if seeds differ as is assumed of one"
    if not_asked(choice.finalists):
        return [f"{found} by the rows that chose it, which make it look safer than it is: ask the finalists."]
    return [f"{found}."]


def _nothing(choice: Pick) -> str:
    near = "; ".join(miss(one, choice) for one in choice.nearest)
    return (
        "Ship nothing yet: no candidate both shows a gain over the base alone and meets the constraint with "
        f"probability {choice.level:g} on a new seed. "
        + (f"Nearest: {near}." if near else "No candidate gains over the baseline.")
        + _chance_of_one(choice)
    )


def _chance_of_one(choice: Pick) -> str:
    if choice.changes is None:
        return ""
    return (
        f" That the mean of some candidate meets it and gains more than {MARGIN:g}, on endless rows and seeds, has "
        f"probability {chance(choice.changes)}."
    )


def miss(one: Judged, choice: Pick) -> str:
    """Return a candidate with what it lacks to be picked: rows, probability, or a gain that is shown."""
    likely = "unknown" if one.admissible is None else chance(one.admissible, choice.level)
    rows = f"{one.rows_short} row{'' if one.rows_short == 1 else 's'} short" if one.rows_short else "its mean meets it"
    return (
        f"{one.name} ({rows}, probability {likely}{'' if shows_gain(one, choice.fit) else f', {doubt(one, choice)}'})"
    )


def doubt(one: Judged, choice: Pick) -> str:
    """Return that the gain of a candidate over the base alone is not shown, with the gain where it is known."""
    known = "" if one.gain is None else f": {choice.fit.name} {_text(one.gain)} over the base alone"
    return f"gain not shown{known}"


def _both(one: Judged, choice: Pick) -> str:
    return ", ".join(f"{metric.name} {_text(one.estimates[metric.name])}" for metric in (choice.fit, choice.generality))


def _text(found: Interval) -> str:
    if found.low is None or found.high is None:
        return f"{found.mean:.3f}"
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"
