"""Guards that can never stop an arm on the rows that they have, said in the plan."""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.planning.finding import PreflightFinding
from sweeps.planning.guard_errors import PERFECT, GuardErrors, size_text
from trainables.decision import Guard
from trainables.guards import Ceiling, Floor
from trainables.probes.metric import Proportion
from trainables.tested_guards import Reading
from trainables.weak_probes import can_stop, rows_to_stop


def silent_guards(guards: Sequence[Guard], reading: Reading, errors: Sequence[GuardErrors]) -> list[PreflightFinding]:
    """Return a warning for each guard whose test can never stop an arm on its rows, even at a perfect baseline."""
    found = []
    for one in errors:
        rules = [rule for rule in guards if rule.metric == one.metric and isinstance(rule, Floor | Ceiling)]
        perfect = Proportion(round(PERFECT.get(one.metric, 1.0) * one.rows), one.rows)
        for rule in rules if one.rows else ():
            if not can_stop(rule, reading, perfect, one.evals):
                least = rows_to_stop(rule, reading, perfect.rate, one.evals)
                found.append(
                    PreflightFinding(
                        "warn",
                        "silent_probe",
                        f"{one.metric} can tell nothing on {size_text(one)}: an arm that fails on all is not stopped",
                        f"give {least} rows or more" if least and least > one.rows else "evaluate more often",
                    )
                )
    return found
