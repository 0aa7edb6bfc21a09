"""Pilots run first, choose the rate of each arm, and are met by nothing that reads the trials; also when stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from rich.console import Console

from sweeps.display.summary import summary
from sweeps.execution import tried_rates
from sweeps.execution.experiment import Experiment
from sweeps.execution.options import Launch
from sweeps.execution.session import ProgressUpdater
from sweeps.execution.tried_rates import TriedRates, keep_tried, kept_tried, run_tried
from sweeps.planning.finding import PreflightFinding
from sweeps.planning.pilots import pilot_arms
from sweeps.stage4 import STUDY
from sweeps.tracking.mirror import Mirror
from sweeps.watching.status import read_status
from tests.sweeps.planned_trials import trial
from trainables.errors import Checkpointed
from trainables.io.files import FileDamaged
from trainables.measurement import Measurement
from trainables.probes.metric import RowResults
from trainables.rates import ARMS, RATES, read_choices
from trainables.record import CHECKPOINTS, Record
from trainables.spec import Placement, TrialSpec
from trainables.verdict import Verdict

ROWS = [f"v{number}" for number in range(8)]
COMMAND = "python -m sweeps.stage4 --lr auto --only A1,C2 --storage s --seeds 2 --dry-run --notify=x"
METRICS = {"exact_match": 0.5, "irrelevant_pass": 1.0, "hallucination": 0.0, "train_loss": 1.0}


def planned(*names: str, seeds: int = 2) -> list[TrialSpec]:
    return [
        trial(name=f"{name}-s{seed}", arm=name, seed=seed, placement=Placement(language=2 + number), steps=40)
        for number, name in enumerate(names)
        for seed in range(seeds)
    ]


def train(record: Record, loss_of: Callable[[TrialSpec], float | None]) -> None:
    """Write what an engine writes: an eval at the last step, or a verdict that the trial diverged."""
    spec = record.spec()
    loss = loss_of(spec)
    if loss is None:
        record.close(Verdict(kind="invalid", step=3, cause="loss_too_large", reason="loss 99"))
        return
    step = 0 if spec.placement.is_baseline else spec.last_step
    rows = RowResults({row: loss + place / 10 for place, row in enumerate(ROWS)})
    record.append(Measurement("eval", step, {**METRICS, "eval_loss": rows.mean}, rows={"eval_loss": rows}))
    with record.saving(f"{CHECKPOINTS}/step-{step}") as directory:
        (directory / "adapter").write_text("weights")
    record.close(Verdict(kind="completed", step=step))


class Launched:
    """An experiment whose batches a function trains instead of Ray."""

    def __init__(self, storage: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.experiment, self.database = Experiment(storage / "stage4"), database
        self.batches: list[list[str]] = []
        self.loss_of: Callable[[TrialSpec], float | None] = lambda spec: abs(spec.learning_rate - 2e-4)
        self.stops_after: int | None = None  # trials
        self.console = Console(record=True, width=300, quiet=False, file=(storage / "output.txt").open("w"))
        self.launch = Launch(storage=storage, tracking_uri=f"sqlite:///{database}", console=self.console)
        monkeypatch.setattr(tried_rates, "started_cluster", lambda *_: nullcontext())
        monkeypatch.setattr(tried_rates, "run_batch", self._run_batch)

    def _run_batch(
        self, _: object, experiment: Experiment, records: Sequence[Record], __: object, ___: Launch, mirror: Mirror
    ) -> None:
        table = SimpleNamespace(started=lambda _: None, advanced=lambda _: None)
        listener = ProgressUpdater(table, mirror)  # type: ignore[arg-type] nobody looks at it
        todo = [one for one in records if one.verdict() is None]
        self.batches.append([one.name.rpartition("-")[0] for one in todo])
        for record in todo:
            if self.stops_after == 0:
                break
            listener.started(record)
            train(record, self.loss_of)
            listener.advanced(record)
            self.stops_after = self.stops_after and self.stops_after - 1
        if self.stops_after == 0:
            experiment.stop_file.touch()

    def run(self, specs: Sequence[TrialSpec] | None = None) -> list[Record]:
        """Run planned trials, or resume those that the experiment keeps."""
        with self.experiment.held() as experiment:
            if specs is None:
                tried, records = kept_tried(experiment), experiment.records()
                assert tried is not None
            else:
                tried = TriedRates(pilot_arms(specs), COMMAND)
                records = experiment.begin([specs[0].baseline()])
                keep_tried(experiment, tried)
            return run_tried(STUDY, experiment, tried, records, self.launch)

    @property
    def trials(self) -> dict[str, float]:
        """Return the rates of the trials by name, without baselines."""
        specs = [one.spec() for one in self.experiment.records()]
        return {one.name: one.learning_rate for one in specs if not one.placement.is_baseline}


@pytest.fixture
def launched(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Launched:
    return Launched(tmp_path, database, monkeypatch)


def test_pilots_run_first_and_all_seeds_train_at_the_chosen_rate(launched: Launched) -> None:
    records = launched.run(planned("A1", "C2"))

    middle = planned("A1")[0].learning_rate
    pilots, trials = launched.batches
    assert len(pilots) == 1 + 6 and all("-pilot" in name for name in pilots[1:])
    assert trials == ["A1-s0", "A1-s1", "C2-s0", "C2-s1"]
    assert launched.trials == dict.fromkeys(trials, middle * 2.15), "2.15e-4 is next to the best, 2e-4"
    assert sorted(one.name for one in records) == sorted(one.name for one in launched.experiment.records())
    assert {choice.arm for choice in read_choices(launched.experiment.directory).values()} == {"A1", "C2"}


def test_nothing_that_reads_the_trials_meets_a_pilot(launched: Launched) -> None:
    records = launched.run(planned("A1", seeds=1))

    client = MlflowClient(f"sqlite:///{launched.database}")
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert {run.data.tags.get("trial.name") for run in runs} == {None, *(one.spec().name for one in records)}
    assert not any(one.spec().pilot_steps for one in launched.experiment.records())
    assert len(read_status(launched.experiment, 0.0).trials) == 2 == len(records)
    assert [len(one.checkpoint_steps()) for one in launched.experiment.pilots()] == [0, 0, 0], "they take no space"
    assert all(one.spec().pilot_steps == 10 for one in launched.experiment.pilots())


@pytest.mark.parametrize("stops_after", [0, 4, 7, 9])
def test_a_launch_stopped_anywhere_ends_equal_when_it_is_resumed(
    launched: Launched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: Path, stops_after: int
) -> None:
    """The baseline and 6 pilots are the first 7 trials; after 7 it is stopped before a rate is chosen."""
    specs = planned("A1", "C2")
    launched.stops_after = stops_after
    with pytest.raises(Checkpointed):
        launched.run(specs)
    launched.stops_after = None
    launched.run()
    (tmp_path / "whole").mkdir()
    whole = Launched(tmp_path / "whole", database, monkeypatch)
    whole.run(specs)

    for one, other in ((launched.experiment, whole.experiment),):
        assert [record.name for record in one.records()] == [record.name for record in other.records()]
        assert [record.name for record in one.pilots()] == [record.name for record in other.pilots()]
        assert (one.directory / RATES).read_bytes() == (other.directory / RATES).read_bytes()
        assert all(record.verdict() for record in one.records())


def test_while_pilots_run_the_status_shows_them(launched: Launched) -> None:
    launched.stops_after = 3
    with pytest.raises(Checkpointed):
        launched.run(planned("A1", "C2", seeds=1))

    shown = [one.record for one in read_status(launched.experiment, 0.0).trials]
    assert len(shown) == 1 + 4 and launched.trials == {}


def test_a_rate_that_diverges_loses_and_an_arm_of_which_all_do_is_infeasible(launched: Launched) -> None:
    middle = planned("A1")[0].learning_rate

    def loss_of(spec: TrialSpec) -> float | None:
        diverges = spec.arm == "C2" or spec.learning_rate > middle
        return None if diverges and not spec.placement.is_baseline else 1.0

    launched.loss_of = loss_of
    records = launched.run(planned("A1", "C2"))

    verdicts = {one.spec().name: str(one.verdict()) for one in records if not one.spec().placement.is_baseline}
    assert verdicts == {"A1-s0": "completed", "A1-s1": "completed"} | dict.fromkeys(
        ("C2-s0", "C2-s1"), "infeasible(rate)"
    )
    printed = launched.console.export_text()
    assert f"A1: rate {middle:.3g}" in printed and "none, invalid(loss_too_large): loss 99" in printed
    assert "C2: no rate ended its pilot" in printed
    told = summary(STUDY, records, "stage4")
    lower = middle / 2.15**2
    command = f"python -m sweeps.stage4 --storage s --seeds 2 --only C2 --lr auto:{lower:.6g}"
    assert f"a lower rate may train; try with: {command}" in told


def test_a_rate_at_the_edge_is_reported_with_the_command_that_tries_further(launched: Launched) -> None:
    told = summary(STUDY, launched.run(planned("A1", seeds=1)), "stage4")

    assert "A1: rate 0.000215, the highest of the three" in told
    assert "a higher rate may be better still; try with: python -m sweeps.stage4" in told
    assert "--only A1 --lr auto:0.000215" in told and "--notify" not in told and "--dry-run" not in told


def test_a_choice_stays_when_more_seeds_are_asked_for(launched: Launched) -> None:
    launched.run(planned("A1", seeds=1))
    launched.loss_of = lambda spec: 1.0 / spec.learning_rate  # which would choose otherwise
    launched.batches.clear()
    launched.run(planned("A1", seeds=3))

    assert launched.batches == [["A1-s1", "A1-s2"]] and len(set(launched.trials.values())) == 1


def test_a_failed_pilot_runs_again_until_the_rate_is_chosen(launched: Launched) -> None:
    specs = planned("A1", seeds=1)
    launched.stops_after = 3
    with pytest.raises(Checkpointed):
        launched.run(specs)
    failed = launched.experiment.pilots()[0]
    failed.reopen()
    failed.close(Verdict(kind="failed", step=0, cause="OSError", reason="gone"))
    launched.batches.clear()
    launched.stops_after = None
    launched.run()

    assert failed.name.rpartition("-")[0] in launched.batches[0] and len(launched.batches[0]) == 2
    failed.reopen()
    failed.close(Verdict(kind="failed", step=0, cause="OSError", reason="gone"))
    launched.batches.clear()
    launched.run()
    assert launched.batches == [], "the choice has been made"


def test_what_force_overrode_stays_known_for_trials_that_begin_later(launched: Launched) -> None:
    finding = PreflightFinding("refuse", "coverage", "too little", "train longer", ("A1-s0",))
    specs = planned("A1")
    with launched.experiment.held() as experiment:
        tried = TriedRates(pilot_arms(specs), COMMAND, (finding,))
        experiment.begin([specs[0].baseline()])
        keep_tried(experiment, tried)
        assert kept_tried(experiment) == tried
    launched.run()

    kept = {one.spec().name: (one.directory / "overridden.json").exists() for one in launched.experiment.records()}
    assert [name for name, is_kept in kept.items() if is_kept] == ["A1-s0"]


def test_a_damaged_list_of_arms_is_named(launched: Launched) -> None:
    launched.run(planned("A1", seeds=1))
    path = launched.experiment.directory / ARMS
    path.write_text(json.dumps({"arms": [{"trials": []}], "command": "", "overridden": []}))

    with pytest.raises(FileDamaged, match=r"pilots\.json: the arms with pilots must be as they were written"):
        kept_tried(launched.experiment)
