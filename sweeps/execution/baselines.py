"""Reads the scores of the base from the baseline's record."""

from __future__ import annotations

from sweeps.study import Study
from trainables.errors import UserError
from trainables.guards import broken_by_baseline
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.recorded_baselines import baseline_in


def scores_of(record: Record) -> Baseline:
    """Return the metrics, captions and results by row of a baseline that has completed.

    Raises:
        UserError: it has no result.
    """
    verdict = record.verdict()
    if verdict is None or verdict.kind != "completed":
        raise UserError(
            f"the baseline must complete, because every arm is compared with it, but {record.name} ended as {verdict}: "
            f"{verdict.reason if verdict else 'no verdict'}",
            "the message above and its record explain why; no other trial was started",
        )
    return baseline_in(record)


def baseline_of(record: Record, study: Study) -> Baseline:
    """Return the baseline's metrics, captions and counts.

    Raises:
        UserError: the baseline has no result, or the base itself violates a guard, so that every arm would be pruned.
    """
    known = scores_of(record)
    broken = broken_by_baseline(study.guards, record.evals()[0])
    if broken:
        raise UserError(
            f"the base model must satisfy the guards, but it already violates: {'; '.join(broken)}; "
            "every trial would be pruned",
            "lower `min_absolute` of that guard in the study, or use out-of-distribution rows the base can answer",
        )
    return known
