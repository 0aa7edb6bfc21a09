"""Trials as values, and MLflow stores as the tracker writes them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from analysis.mlflow_runs import ExperimentRuns, TrialRun
from analysis.objectives import frontier_objectives

STATUS = {"completed": "FINISHED", "pruned": "KILLED", None: "RUNNING"}
IRRELEVANT = "pruned(irrelevant_pass)"
TOO_LOW = "irrelevant_pass 0.71 < 0.80 for 2 evals (baseline 1.00)"


@pytest.fixture
def make_trial() -> Callable[..., TrialRun]:
    """Build a completed trial of arm `C2`; `x`, `y` are irrelevant_pass, exact_match of its best checkpoint."""

    def make(name: str = "C2-L2-V4-s0", x: float = 0.95, y: float = 0.9, **changes: Any) -> TrialRun:
        arm = name.split("-", maxsplit=1)[0]
        parameters = {"language_layers": 2, "vision_blocks": 4, "rank": 16, "quantization": "none", "seed": 0}
        values = {
            "trial_id": name,
            "name": name,
            "arm": arm,
            "run_id": f"run-{name}",
            "started_ms": 0,
            "run_status": "FINISHED",
            "verdict": "completed",
            "verdict_kind": "completed",
            "verdict_reason": None,
            "best_step": "60",
            "record": None,
            "last": {"irrelevant_pass": x, "exact_match": y, "adapter_parameters": 1000.0},
            "best": {"irrelevant_pass": x, "exact_match": y},
        }
        parameters |= changes.pop("parameters", {})
        return TrialRun(**(values | changes), parameters=parameters)

    return make


@pytest.fixture
def make_baseline(make_trial: Callable[..., TrialRun]) -> Callable[..., TrialRun]:
    """Build the baseline: no adapter, no best checkpoint, its eval under `final/`."""

    def make(x: float = 1.0, y: float = 0.1, **changes: Any) -> TrialRun:
        layers = {"language_layers": 0, "vision_blocks": 0} | changes.pop("parameters", {})
        last = {"irrelevant_pass": x, "exact_match": y}
        return make_trial("A0-L0-V0", **({"last": last, "best": {}, "parameters": layers} | changes))

    return make


@pytest.fixture
def make_experiment() -> Callable[..., ExperimentRuns]:
    """Build an experiment of these trials."""

    def make(*trials: TrialRun, baseline_ids: frozenset[str] = frozenset(), name: str = "stage4") -> ExperimentRuns:
        return ExperimentRuns(name, "launch", baseline_ids, trials)

    return make


@pytest.fixture
def objectives():
    """Generality against task fit, the defaults."""
    return frontier_objectives("irrelevant_pass", "exact_match", ())


# ------------------------------------------------------------------- MLflow stores
@dataclass
class Store:
    """Writes runs as the tracker does; times are explicit, so that the newest run is known."""

    uri: str
    clock_ms: int = 1_000
    client: Any = field(init=False)
    experiment_id: str = field(init=False)
    launch_id: str = field(init=False)

    def __post_init__(self) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(self.uri)

    def launch(self, experiment: str = "stage4", baseline: str = "") -> str:
        """Open the experiment and a parent run."""
        found = self.client.get_experiment_by_name(experiment)
        location = Path(self.uri.removeprefix("sqlite:///")).with_name("artifacts").as_uri()
        self.experiment_id = found.experiment_id if found else self.client.create_experiment(experiment, location)
        tags = {"footprint.kind": "launch", "footprint.study": experiment, "footprint.baseline": baseline}
        self.launch_id = self._create("launch-20261120-220000", tags)
        return self.launch_id

    def trial(
        self,
        name: str,
        parameters: Mapping[str, Any],
        verdict: str | None = "completed",
        reason: str = "",
        arm: str | None = None,
        **metrics: Mapping[str, float],
    ) -> str:
        """Write a child run; `last`, `best` and `curve` map metric names to values, an `arm` of "" has no tag."""
        from mlflow.entities import Metric, Param

        kind = verdict.split("(")[0] if verdict else None
        values = {"rank": 16, "quantization": "none", "seed": 0} | dict(parameters)
        identity = f"{name}/{values['seed']}"
        tags = {"mlflow.parentRunId": self.launch_id, "footprint.kind": "trial", "trial.id": identity}
        arm = name.split("-", maxsplit=1)[0] if arm is None else arm
        tags |= {"trial.name": name, "record": f"records/{name}"} | ({"trial.arm": arm} if arm else {})
        if verdict:
            tags |= {"verdict": verdict, "verdict.kind": kind, "verdict.reason": reason, "best.step": "60"}
        run_id = self._create(name, tags)
        prefixes = {"last": "final", "best": "best", "curve": "eval"}
        flat = [(f"{prefixes[group]}/{key}", value) for group, row in metrics.items() for key, value in row.items()]
        self.client.log_batch(
            run_id,
            metrics=[Metric(key, value, self.clock_ms, 90) for key, value in flat],
            params=[Param(key, str(value)) for key, value in values.items()],
        )
        if verdict:
            self.client.set_terminated(run_id, STATUS.get(kind, "FAILED"))
        return run_id

    def completed(
        self, name: str, x: float, y: float, last: float = 1e5, arm: str | None = None, **parameters: Any
    ) -> str:
        """Write a completed trial whose best checkpoint has irrelevant_pass `x` and exact_match `y`."""
        row = {"irrelevant_pass": x, "exact_match": y}
        price = {"adapter_parameters": last, "train_seconds": 40.0}
        return self.trial(name, parameters, arm=arm, last=row | price, best=row)

    def label(self, run_id: str, **tags: str) -> None:
        """Write further tags of a run: `criteria`, `degraded`, `overridden`."""
        for key, value in tags.items():
            self.client.set_tag(run_id, key, value)

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        self.clock_ms += 1_000
        run = self.client.create_run(self.experiment_id, start_time=self.clock_ms, tags=dict(tags), run_name=name)
        return run.info.run_id


@pytest.fixture
def store(migrated_database: Path, tmp_path: Path) -> Store:
    """An MLflow store of one launch and no trial."""
    path = tmp_path / "mlflow.db"
    shutil.copy(migrated_database, path)
    made = Store(f"sqlite:///{path}")
    made.launch()
    return made


@pytest.fixture(scope="session")
def matrix(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a possible end of Stage 4: frontier, dominated, stopped, failed and running trials."""
    path = tmp_path_factory.mktemp("matrix") / "mlflow.db"
    shutil.copy(migrated_database, path)
    store = Store(f"sqlite:///{path}")
    store.launch(baseline="A0-L0-V0/0")
    baseline = {"irrelevant_pass": 1.0, "exact_match": 0.12}
    store.trial("A0-L0-V0", {"language_layers": 0, "vision_blocks": 0}, last=baseline)
    stopped = {"irrelevant_pass": 0.71, "exact_match": 0.62, "adapter_parameters": 5e5}
    store.trial("A1-L2-V0", {"language_layers": 2, "vision_blocks": 0}, IRRELEVANT, TOO_LOW, last=stopped)
    worse = {"irrelevant_pass": 0.42, "exact_match": 0.66, "adapter_parameters": 9e5}
    store.trial("A2-L4-V0", {"language_layers": 4, "vision_blocks": 0}, IRRELEVANT, TOO_LOW, last=worse)
    store.completed("B1-L0-V2", 1.0, 0.31, 1.2e5, language_layers=0, vision_blocks=2)
    store.completed("B2-L0-V4", 1.0, 0.44, 2.4e5, language_layers=0, vision_blocks=4)
    store.completed("B3-L0-V6", 0.99, 0.43, 3.6e5, language_layers=0, vision_blocks=6)
    for seed, (x, y) in enumerate([(0.95, 0.93), (0.96, 0.90), (0.94, 0.95)]):
        run_id = store.completed("C2-L2-V4", x, y, 7e5, language_layers=2, vision_blocks=4, seed=seed)
        store.label(run_id, criteria="minimum" if seed else "optimal")
    store.label(run_id, degraded="gradient_spikes")
    for seed, (x, y) in enumerate([(0.94, 0.91), (0.93, 0.92), (0.95, 0.89)]):
        store.completed("C3-L2-V6", x, y, 8.2e5, language_layers=2, vision_blocks=6, seed=seed)
    run_id = store.completed("C1-L2-V2", 0.96, 0.81, 6e5, language_layers=2, vision_blocks=2)
    store.label(run_id, criteria="minimum", overridden="coverage,usable_rate")
    store.completed("D1-L4-V2", 0.93, 0.88, 1e6, language_layers=4, vision_blocks=2, seed=0)
    store.trial("D1-L4-V2", {"language_layers": 4, "vision_blocks": 2, "seed": 1}, IRRELEVANT, TOO_LOW, last=stopped)
    never = {"irrelevant_pass": 0.85, "exact_match": 0.9, "adapter_parameters": 1.1e6}
    store.trial("D2-L4-V4", {"language_layers": 4, "vision_blocks": 4}, last=never)
    store.trial(
        "D3-L4-V6", {"language_layers": 4, "vision_blocks": 6}, None, curve={"irrelevant_pass": 0.9, "exact_match": 0.5}
    )
    return store
