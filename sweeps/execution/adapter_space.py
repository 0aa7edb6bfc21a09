"""Which adapters a launch keeps: those of the trials that have no result yet must find space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sweeps.execution.experiment import Experiment
from sweeps.execution.options import Launch
from sweeps.execution.storage import AdapterBytes, adapter_bytes
from sweeps.planning.forecast import Forecast, forecast
from trainables.record import Record


def waiting_bytes(experiment: Experiment, forecasts: Sequence[Forecast]) -> AdapterBytes:
    """Return the size of the adapters of the forecast trials that have no result; those of the others are written."""
    trained = [one.spec for one in forecasts if not one.spec.placement.is_baseline]
    return adapter_bytes(forecasts, sum(not _has_result(record) for record in experiment.records_of(trained)))


def budget_bytes(experiment: Experiment, forecasts: Sequence[Forecast], trials: int) -> AdapterBytes:
    """Return the size of the adapters that `trials` trials, not all of them known, have yet to write."""
    trained = [one for one in experiment.records() if not one.spec().placement.is_baseline]
    return adapter_bytes(forecasts, max(0, trials - sum(map(_has_result, trained))))


def begun_bytes(experiment: Experiment) -> AdapterBytes:
    """Return the size of the adapters that the begun trials have yet to write."""
    specs = [one.spec().model_copy(update={"init_from": None}) for one in experiment.records()]  # parents may be gone
    trained = [one for one in experiment.records() if not one.spec().placement.is_baseline]
    return adapter_bytes(forecast(specs, train_rows=1), sum(not _has_result(one) for one in trained))


def keeping(experiment: Experiment, launch: Launch, size: AdapterBytes) -> Launch:
    """Return the launch with the adapters that its records keep, and remember what was asked.

    The best ones alone for want of space are not remembered: the next launch may find more.

    Raises:
        UserError: the storage cannot take the records.
    """
    if launch.keep:
        experiment.remember_keep(launch.keep)
    return replace(launch, keep=experiment.kept(launch.keep, size).keep)


def _has_result(record: Record) -> bool:
    """A failed trial has none: it runs again."""
    verdict = record.verdict() if record.home.is_dir() else None
    return verdict is not None and verdict.kind != "failed"
