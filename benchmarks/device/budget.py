"""The time budget of a run, and the sections that still fit.

A section is a generator: what it yields are its figures so far, so that a run that is cut has saved them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Values = Mapping[str, Any]


@dataclass
class Budget:
    """The seconds that a run may take, counted from its start."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    began: float = field(init=False)

    def __post_init__(self) -> None:
        """Start counting."""
        self.began = self.clock()

    @property
    def left_seconds(self) -> float:
        """Return the seconds that are left, negative when the budget is exceeded."""
        return self.seconds - (self.clock() - self.began)

    def fits(self, seconds: float) -> bool:
        """Return whether something that takes `seconds` can still be begun."""
        return seconds <= self.left_seconds


@dataclass(frozen=True)
class Section:
    """One part of a run; `seconds` is what it needs, so that it is not begun with less left."""

    name: str
    title: str
    seconds: float
    measure: Callable[[], Iterator[Values]]


def run_sections(sections: Sequence[Section], budget: Budget, save: Callable[[str, Values], None]) -> None:
    """Run every section that fits, in order, and save its figures each time there are new ones.

    A section that does not fit is saved with the reason. One that fails ends with its error, and the next one runs.
    One that exceeds the budget keeps what it has measured and says that it was cut.
    """
    for section in sections:
        if not budget.fits(section.seconds):
            left = max(0.0, budget.left_seconds)
            save(
                section.name, _entry(section, {}, f"skipped: needs {section.seconds:.0f} s, but {left:.0f} s are left")
            )
            continue
        found: Values = {}
        save(section.name, _entry(section, found, "begun"))
        status = "done"
        try:
            for found in section.measure():
                if budget.left_seconds <= 0:
                    status = "cut: the time budget is exceeded"
                    break
                save(section.name, _entry(section, found, "begun"))
        except (RuntimeError, ValueError, ImportError) as error:  # of a device or a library; memory, kernels, versions
            status = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        save(section.name, _entry(section, found, status))


def _entry(section: Section, found: Values, status: str) -> Values:
    return {"title": section.title, "status": status, **found}
