"""Remembers how many forecast FLOPs a second the runs on this machine did, from which a plan forecasts minutes."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from pathlib import Path

from sweeps.planning.resources import TrialResources
from trainables.io.user_cache import cache_directory, keep
from trainables.record import Record

LEAST_SECONDS = 5.0  # of training and evals: shorter runs measure their start


def speed_file() -> Path | None:
    """Return the file of this machine's speed; None for a user without a cache."""
    cache = cache_directory()
    return cache / "speed" / f"{platform.node()}.json" if cache else None


def known_speed(path: Path | None) -> float | None:
    """Return the FLOPs a second of the newest run; None if no run ended here, or the file is not as it was written."""
    try:
        speed = json.loads(path.read_bytes())["flops_per_second"] if path else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(speed) if isinstance(speed, int | float) and speed > 0 else None


def measured_speed(found: Iterable[TrialResources], records: Iterable[Record]) -> float | None:
    """Return the FLOPs a second of trials that completed: their forecast by the seconds of training and evals."""
    forecast = {one.trial_id: one.flops for one in found}
    flops = seconds = 0.0
    for record in records:
        verdict, spec = record.verdict(), record.spec()
        if verdict is None or verdict.kind != "completed" or spec.trial_id not in forecast:
            continue
        took = seconds_of(record)
        if took is not None:
            flops, seconds = flops + forecast[spec.trial_id], seconds + took
    return flops / seconds if seconds >= LEAST_SECONDS else None


def seconds_of(record: Record) -> float | None:
    """Return the seconds of training and evals of a trial, as its share of a cohort; None without a measurement."""
    trained = [one for one in record.measurements() if one.kind == "train"]
    return trained[-1].metrics["train_seconds"] + trained[-1].metrics["eval_seconds"] if trained else None


def remember_speed(found: Iterable[TrialResources], records: Iterable[Record]) -> None:
    """Keep the speed of a run that ended; a run too short to tell changes nothing."""
    path, speed = speed_file(), measured_speed(found, records)
    if path is not None and speed is not None:
        keep(path, json.dumps({"flops_per_second": speed}).encode())
