"""The first lines of the report: what to ship, and how sure that is."""

from __future__ import annotations

from analysis.decision.judged import Interval, Judged
from analysis.decision.pick import Pick
from analysis.report.shipping import doubted_gain


def gains(found: Pick) -> bool:
    """True when something was picked, and it is better at the task than the base alone."""
    return found.picked is not None and found.picked.gain is not None and found.picked.gain.mean > 0


def answer(found: Pick) -> list[str]:
    """Return what to ship and how sure, or why nothing; what would change it comes last."""
    if not gains(found):
        return _nothing(found)
    picked, shipped = found.picked, found.shipped
    assert picked is not None
    sentences = [
        f"Ship {picked.name}: {_values(picked, found)}.",
        f"It gains {_interval(picked.gain)} {found.fit.name} over the base alone.",
        *doubted_gain(picked, found),
        _admissible(picked),
    ]
    if shipped is not None:
        sentences.append(f"Of its seeds, {shipped.chosen.trial.name} is shipped; that this one meets the constraint on "
                         f"other rows has the probability {shipped.admissible:.0%}.")  # fmt: skip
    others = [one.name for one in found.alike if one is not picked]
    if others:
        sentences.append(f"In {found.fit.name} it cannot be told from {', '.join(others[:5])}"
                         f"{f' and {len(others) - 5} more' if len(others) > 5 else ''}.")  # fmt: skip
    if found.fit.name in found.corrected:
        sentences.append(f"On rows that did not choose it, expect {found.corrected[found.fit.name]:.3f} "
                         f"{found.fit.name}.")  # fmt: skip
    return [*sentences, *found.would_change]


def _nothing(found: Pick) -> list[str]:
    sentences = [f"Ship nothing yet: no candidate that gains over the base alone meets the constraint with probability "
                 f"{found.level:.0%} or more."]  # fmt: skip
    for one in _likeliest(found):
        short = f" Its mean is {one.rows_short} row{'s' * (one.rows_short > 1)} short." if one.rows_short else ""
        sentences.append(f"{one.name} comes near: {_values(one, found)}. {_admissible(one)}{short}")
    return sentences


def _likeliest(found: Pick) -> list[Judged]:
    """Return the candidate that gains and is the likeliest to meet the constraint, of up to three arms."""
    gaining = [one for one in found.judged if one.admissible is not None and one.gain and one.gain.mean > 0]
    by_arm: dict[str, Judged] = {}
    for one in sorted(gaining, key=lambda each: -(each.admissible or 0.0)):
        by_arm.setdefault(one.candidate.arm, one)
    return list(by_arm.values())[:3]


def nearest(found: Pick) -> Judged | None:
    """Return the candidate that gains and is the likeliest to meet the constraint, None if none gains."""
    return next(iter(_likeliest(found)), None)


def _values(one: Judged, found: Pick) -> str:
    names = (found.fit.name, found.generality.name)
    return ", ".join(f"{name} {_interval(one.estimates[name])}" for name in names if name in one.estimates)


def _admissible(one: Judged) -> str:
    if one.admissible is None:
        return "Whether another seed meets the constraint is not known."
    return (f"A new seed meets the constraint with probability {one.admissible:.0%}; {one.seeds_admissible} of "
            f"{one.seeds} seeds did.")  # fmt: skip


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
            one.name, *values, _percent(one.admissible), f"{one.seeds_admissible} of {one.seeds}",
            "not known" if one.rows_short is None else str(one.rows_short), _percent(one.on_frontier),
            "derived" if one.candidate.is_derived else "",
        ))  # fmt: skip
    return rows


def candidate_header(found: Pick) -> tuple[str, ...]:
    """Return the names of the columns of `candidate_rows`."""
    values = (found.fit.name, found.generality.name)
    return ("candidate", *values, "P(admissible)", "seeds admissible", "rows short", "P(frontier)", "weights")


def _percent(value: float | None) -> str:
    return "not known" if value is None else f"{value:.0%}"
