"""The first lines of the report: what to ship, and how sure that is."""

from __future__ import annotations

from analysis.decision.judged import Interval, Judged, shows_gain
from analysis.decision.pick import Pick, nearest_first
from analysis.probabilities import percent
from analysis.report.shipping import corrected, doubt, settled, undecided


def answer(found: Pick) -> list[str]:
    """Return what to ship and how sure, or why nothing; what would change it comes last."""
    picked, shipped = found.picked, found.shipped
    if picked is None:
        return _nothing(found)
    sentences = [
        *undecided(found),
        f"{'Ship' if found.is_settled else 'As of now, ship'} {picked.name}: {_values(picked, found)}.",
        *settled(found),
        f"It gains {_interval(picked.gain)} {found.fit.name} over the base alone.",
        _admissible(picked, found),
    ]
    if shipped is not None:
        sentences.append(f"Of its seeds, {shipped.chosen.trial.name} is shipped; that this one meets the constraint on "
                         f"other rows has the probability {percent(shipped.admissible, found.level)}.")  # fmt: skip
    others = [one.name for one in found.alike if one is not picked]
    if others:
        sentences.append(f"In {found.fit.name} it cannot be told from {', '.join(others[:5])}"
                         f"{f' and {len(others) - 5} more' if len(others) > 5 else ''}.")  # fmt: skip
    return [*sentences, *corrected(found), *found.would_change]


def _nothing(found: Pick) -> list[str]:
    sentences = [f"Ship nothing yet: no candidate both shows a gain over the base alone and meets the constraint with "
                 f"probability {found.level:g} or more on a new seed."]  # fmt: skip
    for one in _nearest_of_arms(found):
        short = f" Its mean is {one.rows_short} row{'s' * (one.rows_short > 1)} short." if one.rows_short else ""
        gain = "" if shows_gain(one, found.fit) else f" Its {doubt(one, found)}."
        sentences.append(f"{one.name} comes near: {_values(one, found)}. {_admissible(one, found)}{short}{gain}")
    return sentences


def _nearest_of_arms(found: Pick) -> list[Judged]:
    """Return the candidate that misses the level by the least, of up to three arms, the nearest first."""
    by_arm: dict[str, Judged] = {}
    for one in nearest_first(found.judged, found.fit):
        by_arm.setdefault(one.candidate.arm, one)
    return list(by_arm.values())[:3]


def nearest(found: Pick) -> Judged | None:
    """Return the candidate that gains and misses the level by the least, None if none gains."""
    return next(iter(_nearest_of_arms(found)), None)


def _values(one: Judged, found: Pick) -> str:
    names = (found.fit.name, found.generality.name)
    return ", ".join(f"{name} {_interval(one.estimates[name])}" for name in names if name in one.estimates)


def _admissible(one: Judged, found: Pick) -> str:
    if one.admissible is None:
        return "Whether another seed meets the constraint is not known."
    return (f"A new seed meets the constraint with probability {percent(one.admissible, found.level)}; "
            f"{one.seeds_admissible} of {one.seeds} seeds did.")  # fmt: skip


def _interval(value: Interval | None) -> str:
    if value is None:
        return "an unknown"
    return f"{value.mean:.3f}" + (
        "" if value.low is None or value.high is None else f" [{value.low:.3f}, {value.high:.3f}]"
    )


def candidate_rows(found: Pick) -> list[tuple[str, ...]]:
    """Return a row of text for each candidate, best fit first: values, probabilities, seeds and rows short."""
    rows = []
    for one in found.judged:
        values = [_interval(one.estimates.get(name)) if name in one.estimates else "not known"
                  for name in (found.fit.name, found.generality.name)]  # fmt: skip
        rows.append((
            one.name, *values, _percent(one.admissible, found.level), f"{one.seeds_admissible} of {one.seeds}",
            "not known" if one.rows_short is None else str(one.rows_short), _percent(one.on_frontier),
            "derived" if one.candidate.is_derived else "",
        ))  # fmt: skip
    return rows


def candidate_header(found: Pick) -> tuple[str, ...]:
    """Return the names of the columns of `candidate_rows`."""
    values = (found.fit.name, found.generality.name)
    return ("candidate", *values, "P(admissible)", "seeds admissible", "rows short", "P(frontier)", "weights")


def _percent(value: float | None, level: float | None = None) -> str:
    return "not known" if value is None else percent(value, level)
