"""Writes probabilities so that rounding never moves one to the other side of a level, or makes it certain."""

from __future__ import annotations

from decimal import Decimal

LEAST_SHOWN = 0.01
MOST_DIGITS = 6


def chance(value: float, level: float | None = None, *, is_most: bool = False) -> str:
    """Return a probability for a sentence, `0.97`: two decimals, more where two would show it across the level.

    Drawn probabilities are never certain: one that rounds to 0 or 1 is `below 0.01` or `above 0.99`. The level is the
    least that is asked for; with `is_most` it is the most that is accepted.
    """
    if 0.0 <= value < LEAST_SHOWN / 2:
        return f"below {LEAST_SHOWN:g}"
    if 1.0 - LEAST_SHOWN / 2 < value <= 1.0:
        return f"above {1.0 - LEAST_SHOWN:g}"
    return _rounded(value, level, 2, is_most)


def percent(value: float, level: float | None = None) -> str:
    """Return a probability for the cell of a table, `97%`, by the same rules: `<1%` and `>99%` at the ends."""
    # cells have fewer digits: 0.005 and 0.995 count to the ends
    if 0.0 <= value <= LEAST_SHOWN / 2:
        return "<1%"
    if 1.0 - LEAST_SHOWN / 2 <= value <= 1.0:
        return ">99%"
    return f"{Decimal(_rounded(value, level, 2)).scaleb(2)}%"  # the digits of `chance`


def _rounded(value: float, level: float | None, digits: int, is_most: bool = False) -> str:
    def is_beyond(shown: float) -> bool:
        return level is not None and (shown > level if is_most else shown >= level)

    text = f"{value:.{digits}f}"
    while digits < MOST_DIGITS and is_beyond(float(text)) != is_beyond(value):
        digits += 1
        text = f"{value:.{digits}f}"
    return text
