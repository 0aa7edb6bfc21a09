"""A plan, or the results of a launch, as JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sweeps.planning.preflight import Preflight
from trainables.record import Record
from trainables.spec import TrialSpec

SETTINGS = ("rank", "learning_rate", "vision_learning_rate", "quantization", "steps", "seed")


def plan_json(experiment: str, specs: Sequence[TrialSpec], preflight: Preflight) -> str:
    """Return the trials of a plan that are known before it runs, and what preflight found."""
    findings = [asdict(one) for one in preflight.findings]
    return _dumped({"experiment": experiment, "trials": [_trial(one) for one in specs], "findings": findings})


def results_json(experiment: str, records: Sequence[Record], exit_code: int) -> str:
    """Return the results of a launch: each trial with its verdict and the metrics of its best and newest eval."""
    trials = [{**_trial(record.spec()), **_result(record)} for record in records]
    return _dumped({"experiment": experiment, "exit_code": exit_code, "trials": trials})


def _trial(spec: TrialSpec) -> dict[str, Any]:
    own = {name: getattr(spec, name) for name in SETTINGS}
    placement = {"language": spec.placement.language, "vision": spec.placement.vision}
    return {"name": spec.name, "id": spec.trial_id, "arm": spec.arm, **placement, **own}


def _result(record: Record) -> dict[str, Any]:
    verdict, best = record.verdict(), record.best()
    last = next(iter(record.evals()[::-1]), None)
    return {
        "directory": str(record.directory),
        "verdict": None if verdict is None else {"kind": verdict.kind, "reason": verdict.reason},
        "best": None if best is None else {"step": best.step, "metrics": dict(best.metrics)},
        "last": None if last is None else {"step": last.step, "metrics": dict(last.metrics)},
    }


def _dumped(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False)
