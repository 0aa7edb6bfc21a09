"""What MLflow's pages show first: a shared view with the deciding columns, its address, and descriptions in words."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from trainables.metrics import METRICS
from trainables.placement import COUNTS
from trainables.spec import TrialSpec
from trainables.verdict import Verdict

VIEW = "footprint"  # the key of the shared view, which the address names
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
NOTE_TAG = "mlflow.note.content"
LOCAL_SERVER = "http://127.0.0.1:5000"  # where `mlflow ui` listens
DECIDING = ("exact_match", "irrelevant_pass", "text_retention", "hallucination", "dangerous_rate")
COLUMNS = (
    "tags.`verdict`",
    *(f"metrics.`best/{name}`" for name in (*DECIDING, "eval_loss")),
    "tags.`best.step`",
    *(f"params.`{name}`" for name in ("language_layers", "vision_blocks", "modules")),
)
WIDTHS = {"tags": 150, "metrics": 150, "params": 110}  # pixels, by the kind of column
SORTED_BY = "metrics.`best/exact_match`"


def view_state(created_ms: int) -> str:
    """Return the shared view as MLflow 3.17 keeps it in a tag of the experiment: trials only, best fit first."""
    state = {
        "searchFilter": "tags.`footprint.kind` = 'trial'",
        "orderByKey": SORTED_BY,
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": list(COLUMNS),
        "columnOrder": ["attributes.`Run Name`", *COLUMNS, "runDateAndNestInfo", "duration"],
        "columnWidths": {name: WIDTHS[name.partition(".")[0]] for name in COLUMNS},
        "runsExpanded": {},
        "runsHiddenMode": "SHOW_ALL",
    }
    kept = {"name": "Footprint: what decides", "createdAt": created_ms, "updatedAt": created_ms}
    return json.dumps({**kept, "state": json.dumps(state)})


def view_address(tracking_uri: str, experiment: str) -> str:
    """Return the address of the shared view of the experiment with id `experiment`; it holds no password."""
    server = tracking_uri.rstrip("/") if tracking_uri.startswith("http") else LOCAL_SERVER
    scheme, _, host = server.rpartition("://")
    host = host.rpartition("@")[2]
    return f"{scheme}://{host}/#/experiments/{experiment}/runs?viewStateShareKey={VIEW}"


def server_command(tracking_uri: str | None) -> str | None:
    """Return the command that serves a database on this machine; None for a server."""
    if tracking_uri is None:
        return "mlflow ui"
    if tracking_uri.startswith("http"):
        return None
    return shlex.join(["mlflow", "ui", "--backend-store-uri", tracking_uri])


def deciding(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return those of an eval's metrics that decide: fit, and generality in the modality of the base."""
    sees = "irrelevant_pass" in metrics
    return {name: metrics[name] for name in DECIDING if name in metrics and not (sees and name == "text_retention")}


def experiment_note(question: str) -> str:
    """Return the description of an experiment, in Markdown: its question, and what the metrics mean."""
    named = (*DECIDING, "eval_loss")
    meanings = [f"| `{name}` | {METRICS[name].direction} | {METRICS[name].counts} |" for name in named]
    return "\n".join(
        [
            *([question, ""] if question else []),
            "Each child run is one trial; its parent is the launch. `best/…` are the metrics of the best checkpoint "
            "that keeps the generality of the baseline, and of the baseline itself. `deciding/…`, `eval/…` and "
            "`train/…` are curves by optimizer step; `train_seconds` and `eval_seconds` are shares of "
            "compute, no wall-clock time.",
            "",
            "| metric | better | meaning |",
            "| --- | --- | --- |",
            *meanings,
        ]
    )


def trial_note(spec: TrialSpec, verdict: Verdict | None = None, steps_of_best: Sequence[int] = ()) -> str:
    """Return the description of a trial: what it trains, and once it has ended why and which checkpoint is best."""
    if spec.placement.is_baseline:
        text = f"{spec.name}: the base without an adapter, with which every trial is compared."
    else:
        text = (
            f"{spec.name}: LoRA of rank {spec.rank} on {' and '.join(map(spec.placement.describe, COUNTS))}, "
            f"{spec.steps} steps, seed {spec.seed}, base in {spec.quantization}."
        )
    if verdict is None:
        return text
    reason = f": {verdict.reason}" if verdict.reason else ""
    best = f" Best checkpoint: step {steps_of_best[0]}." if steps_of_best else ""
    if not best and not spec.placement.is_baseline:
        best = " No eval met the constraint, so there is no best checkpoint."
    return f"{text} Ended as {verdict} at step {verdict.step}{reason}.{best}"
