"""Makes the probes that a study asks for beside its own."""

from __future__ import annotations

from collections.abc import Sequence

from trainables.evaluation.evaluator import Evaluator
from trainables.evaluation.live_probe import LiveProbe
from trainables.evaluation.shift import ShiftProbe
from trainables.spec import ProbeRequest


def live_probes(requests: Sequence[ProbeRequest], evaluator: Evaluator) -> tuple[LiveProbe, ...]:
    """Return the live probes of an evaluator; tasks of one suite are one probe.

    Raises:
        UserError: a suite is not installed, or one of its tasks cannot be had.
    """
    probes: list[LiveProbe] = []
    if any(one.suite == "shift" for one in requests):
        probes.append(ShiftProbe(evaluator))
    tasks = [one for one in requests if one.suite == "lm-eval"]
    if tasks:
        from trainables.suites.lm_eval_probe import LmEvalProbe

        probes.append(LmEvalProbe(evaluator, tasks))
    return tuple(probes)
