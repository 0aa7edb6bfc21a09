"""A study of made-up results with records, from which pages are written."""

from __future__ import annotations

from pathlib import Path

from analysis.mlflow_runs import ExperimentRuns, TrialRun
from trainables.io.files import write_json
from trainables.probes.metric import Proportion, RowResults
from trainables.record import Measurement, Record
from trainables.spec import Placement, Source, TrialSpec
from trainables.verdict import Verdict

ARMS = {"A1": (2, 0), "B2": (0, 4), "C2": (2, 4), "D3": (4, 6)}
STEPS = (30, 60, 90)
ROWS = 120
GUARDS = [{"rule": "Floor", "metric": "irrelevant_pass", "max_relative_drop": 0.2, "min_absolute": 0.8,
           "patience_evals": 2}]  # fmt: skip
CONSTRAINT = {"max_irrelevant_pass_drop": 0.1, "max_hallucination_rise": 0.1}


def made_up_study(directory: Path) -> tuple[ExperimentRuns, dict[str, list[Measurement]]]:
    """Write the records of a baseline and four arms of three seeds; return their runs and measurements by run id."""
    experiment = directory / "runs" / "stage4"
    sources = {key: Source(path=directory / key, sha256=key * 8) for key in ("base", "train", "validation", "ood")}
    runs, measured = [], {}
    for arm, (language, vision) in {"A0": (0, 0), **ARMS}.items():
        for seed in range(1 if arm == "A0" else 3):
            placement = Placement(language=language, vision=vision)
            spec = TrialSpec(name=f"{arm}-s{seed}", arm=arm, placement=placement, seed=seed, steps=90,
                             quantization="none", **sources)  # fmt: skip
            spec = spec.model_copy(update={"name": "A0-none"}) if arm == "A0" else spec
            record = Record(experiment / "trials" / f"{spec.name}-{spec.trial_id}")
            record.create(spec)
            size = (language + vision) / 10
            evals = [_eval(step, size * step / 90, seed) for step in ((0,) if arm == "A0" else STEPS)]
            trained = [_trained(step, size) for step in STEPS] if arm != "A0" else []
            for one in (*evals, *trained):
                record.append(one)
            record.write_samples(evals[-1].step, [
                {"row": str(row), "kind": kind, "prompt": f"Report the state of {row}.", "answer": f"{arm}: lamp {row}",
                 "expected": "lamp red"}
                for row in range(6) for kind in ("validation", "irrelevant")
            ])  # fmt: skip
            record.close(Verdict(kind="completed", step=evals[-1].step))
            run = _run(spec, record, evals, trained)
            runs.append(run)
            measured[run.run_id] = [*evals, *trained]
    write_json(experiment / "study.json", {"guards": GUARDS, "constraint": CONSTRAINT})
    baseline = frozenset({runs[0].trial_id})
    return ExperimentRuns("stage4", None, baseline, tuple(runs)), measured


def _eval(step: int, progress: float, seed: int) -> Measurement:
    rates = {
        "exact_match": 0.05 + 0.8 * progress,
        "irrelevant_pass": 1.0 - 0.12 * progress**3,
        "hallucination": 0.0,
        "crop_consistency": 0.9 - 0.5 * progress,
    }
    rows = {}
    for name, rate in rates.items():
        count = min(ROWS, max(0, round(rate * ROWS) + (seed - 1 if 0 < rate < 1 else 0)))
        rows[name] = RowResults({f"row{number}": float(number < count) for number in range(ROWS)})
    metrics = {name: one.mean for name, one in rows.items()} | {"eval_loss": 1.5 - progress, "generalization_gap": 0.01}
    counts = {name: Proportion(round(sum(one.values.values())), ROWS) for name, one in rows.items()}
    return Measurement("eval", step, metrics, counts, rows)


def _trained(step: int, size: float) -> Measurement:
    metrics = {"step_loss": 1.6 - size * step / 90, "adapter_norm_language": 1.0 + step / 90,
               "adapter_norm_vision": size * step / 30, "adapter_parameters": 1e5 * size, "train_seconds": step / 2,
               "eval_seconds": 9.0, "peak_memory_mb": 1200.0}  # fmt: skip
    return Measurement("train", step, metrics)


def _run(spec: TrialSpec, record: Record, evals: list[Measurement], trained: list[Measurement]) -> TrialRun:
    parameters = {"language_layers": spec.placement.language, "vision_blocks": spec.placement.vision,
                  "seed": spec.seed, "quantization": spec.quantization, "rank": spec.rank}  # fmt: skip
    last = {**(trained[-1].metrics if trained else {}), **evals[-1].metrics}
    return TrialRun(
        trial_id=spec.trial_id,
        name=spec.name,
        arm=spec.arm,
        run_id=f"run-{spec.trial_id}",
        started_ms=0,
        run_status="FINISHED",
        verdict="completed",
        verdict_kind="completed",
        verdict_reason=None,
        best_step=str(evals[-1].step),
        record=str(record.directory),
        parameters=parameters,
        last=last,
        best=dict(evals[-1].metrics) if trained else {},
    )
