"""What the base scored, read from the baseline's record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeps.study import Study
from trainables.errors import UserError
from trainables.guards import broken_by_baseline
from trainables.probes.captions import captions_in
from trainables.probes.probe import Baseline
from trainables.record import Record

if TYPE_CHECKING:
    pass


def baseline_of(record: Record, study: Study) -> Baseline:
    """Read what the base scored.

    Raises:
        UserError: the baseline has no result, or the base itself breaks a guard, which would prune every arm.
    """
    verdict = record.verdict()
    if verdict is None or verdict.kind != "completed":
        raise UserError(
            f"every arm is held against the baseline, but {record.name} ended as {verdict}: "
            f"{verdict.reason if verdict else 'no verdict'}",
            "its record and the message above say why; nothing else was started",
        )
    measured = record.evals()[0]
    broken = broken_by_baseline(study.guards, measured)
    if broken:
        raise UserError(
            f"the base itself must keep the guards, else every arm is pruned, but {'; '.join(broken)}",
            "lower `min_absolute` of that guard in the study, or use out-of-distribution rows the base can answer",
        )
    return Baseline(measured.metrics, captions_in(record.samples(0)), measured.counts)
