"""Estimates how long the unfinished trials still take, from the wall clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TrialWork:
    """The work of one trial, in optimizer steps; an eval counts as the steps that take as long.

    `done` is what this launch did, `left` what remains (0 for an ended trial), `began_seconds` when this launch began
    to train it (None before). Trials with the same `engine` share its time; without one, a trial has its own process.
    """

    engine: str | None
    done: float
    left: float
    began_seconds: float | None


def seconds_left(trials: Sequence[TrialWork], now_seconds: float) -> float | None:
    """Return the estimated seconds until the last trial ends; None before the first step is done.

    Engines work in parallel, so the slowest decides. An engine that has not begun is taken for one of mean speed.
    """
    engines: dict[str | None, list[TrialWork]] = {}
    for trial in trials:
        engines.setdefault(trial.engine, []).append(trial)
    speeds = {name: _speed(members, now_seconds) for name, members in engines.items()}
    known = [speed for speed in speeds.values() if speed]
    if not known:
        return None
    mean = sum(known) / len(known)
    left = [sum(one.left for one in members) / (speeds[name] or mean) for name, members in engines.items()]
    return max(*left, *_alone(engines.get(None, ()), now_seconds), 0.0)


def _speed(trials: Sequence[TrialWork], now_seconds: float) -> float:
    """Return the steps per second of these trials together since the first of them began."""
    began = [one.began_seconds for one in trials if one.began_seconds is not None]
    done = sum(one.done for one in trials)
    return done / (now_seconds - min(began)) if began and now_seconds > min(began) else 0.0


def _alone(trials: Sequence[TrialWork], now_seconds: float) -> list[float]:
    """Return the seconds that each trial with its own process still takes at its own speed."""
    running = [one for one in trials if one.done and one.began_seconds is not None]
    return [one.left * (now_seconds - one.began_seconds) / one.done for one in running if one.began_seconds is not None]


def duration(seconds: float) -> str:
    """Return seconds as people say them: `40 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
