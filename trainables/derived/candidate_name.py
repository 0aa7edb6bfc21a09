"""The name of a candidate as people type it: `C2 @ 60`, `C2 @ 60 x 0.5`, `C2 @ 90 average`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trainables.derived.copies import checked_scale
from trainables.errors import UserError, named
from trainables.measurement import AVERAGE, FULL_STRENGTH

NAME = re.compile(r"(?P<arm>.+?)\s*@\s*(?P<step>\d{1,9})(?:\s*(?P<average>average)|\s*x\s*(?P<scale>\S+))?")
EXAMPLE = "for example 'C2 @ 60', 'C2 @ 60 x 0.5' or 'C2 @ 90 average'"


@dataclass(frozen=True)
class CandidateName:
    """An arm, a step, and the scale of its adapter: `1`, a smaller number, or `average`."""

    arm: str
    step: int
    scale: str

    def __str__(self) -> str:
        at = f"{self.arm} @ {self.step}"
        return at if self.scale == FULL_STRENGTH else f"{at} {AVERAGE if self.scale == AVERAGE else f'x {self.scale}'}"


def parse_candidate(text: str) -> CandidateName:
    """Read a name.

    Raises:
        UserError: it has another form, or a scale that is not between 0 and 1.
    """
    found = NAME.fullmatch(text.strip())
    if found is None:
        raise UserError(f"a candidate must be named by arm and step, but got `{named(text)}`", EXAMPLE)
    scale = AVERAGE if found["average"] else checked_scale(found["scale"]) if found["scale"] else FULL_STRENGTH
    return CandidateName(found["arm"], int(found["step"]), scale)
