"""Tests a search as a launch without Ray: the records are written by the test, everything else is real."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from searched_sources import SOURCES

from sweeps.execution.experiment import Experiment
from sweeps.execution.holdout_file import keep_holdout
from sweeps.execution.options import Launch
from sweeps.execution.schedulers import Asha
from sweeps.hpo import planning as search_planning
from sweeps.hpo import run as search_launch
from sweeps.hpo.plan_text import show_search
from sweeps.hpo.points import corners, is_baseline_point
from sweeps.hpo.run import RunningSearch, SearchJob, begin, run_cohorts
from sweeps.hpo.space import Choice, Search, Space
from sweeps.planning.active_guards import ActiveGuards
from sweeps.planning.finding import PreflightFinding
from sweeps.planning.forecast import forecast
from sweeps.planning.guard_errors import guard_errors
from sweeps.planning.holdout import Holdout
from sweeps.planning.plan import Plan
from sweeps.planning.preflight import Preflight
from sweeps.planning.resources import TrialMemory, TrialResources
from sweeps.search import SEARCH
from trainables.errors import UserError
from trainables.io.files import read_json, write_json
from trainables.probes.metric import RowResults
from trainables.record import Measurement, Record
from trainables.spec import Source, TrialSpec
from trainables.verdict import Verdict

KEPT = {"irrelevant_pass": 1.0, "hallucination": 0.0, "generalization_gap": 0.0, "caption_sanity": 1.0}
FIVE = ("language", "vision", "rank", "epochs", "quantization")
SMALL = Space({name: SEARCH.space.dimensions[name] for name in FIVE})
EXACT = replace(SEARCH.study, reading="exact")  # the records below hold no results by row
SEARCH_OF_SIX = replace(SEARCH, study=EXACT, space=SMALL, sampler="nsga2", trials=6, cohort=3)


def planned(search: Search, *findings: PreflightFinding) -> Plan:
    specs = list(corners(search.space, search.study, SOURCES))
    return Plan(SOURCES, forecast(specs, SOURCES.train_rows), Preflight({}, findings), ActiveGuards(search.study))


def eval_at(step: int, metrics: Mapping[str, float]) -> Measurement:
    """Return an eval with the results of a hundred rows, by which guards decide."""
    rows = {
        name: RowResults({str(row): float(row < round(100 * metrics[name])) for row in range(100)})
        for name in ("irrelevant_pass", "hallucination")
    }
    return Measurement("eval", step, metrics, {name: one.proportion for name, one in rows.items()}, rows)


def finish(record: Record) -> None:
    """Write records as an engine does: deep adapters fit better and lose generality; deep in both towers are pruned."""
    place = record.spec().placement
    depth = place.language + place.vision
    fit = {"eval_loss": 2.0 - depth / 10, "exact_match": depth / 10, **KEPT, "irrelevant_pass": 1 - depth / 100}
    record.append(Measurement("train", 20, {"adapter_parameters": float(depth)}))
    record.append(eval_at(0 if place.is_baseline else 20, fit))
    if depth >= 9:
        record.append(eval_at(40, {**fit, "hallucination": 0.5}))
        record.close(Verdict(kind="pruned", step=40, cause="hallucination", reason="hallucination 0.50 > 0.15"))
        return
    if not place.is_baseline:
        with record.saving("best") as directory:
            write_json(directory / "provenance.json", {"step": 20, "metrics": fit})
    record.close(Verdict(kind="completed", step=20))


Batches = list[list[Record]]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Batches:
    """Run no Ray and no MLflow; gives the batches that were to be run."""
    ran: Batches = []

    @contextmanager
    def nothing(*_: Any) -> Iterator[Any]:
        yield type("Mirror", (), {"submit": lambda *_: None})()

    def run_batch(study: Any, experiment: Any, records: Sequence[Record], *_: Any) -> None:
        ran.append(list(records))
        for record in records:
            if record.verdict() is None:
                finish(record)

    monkeypatch.setattr(search_launch, "mirrored", nothing)
    monkeypatch.setattr(search_launch, "started_cluster", nothing)
    monkeypatch.setattr(search_launch, "run_batch", run_batch)
    monkeypatch.setattr(search_launch, "forecast_of", lambda *_: ())  # the plans below have no statistics of rows
    return ran


Begin = Callable[..., RunningSearch]


@pytest.fixture
def begun(tmp_path: Path) -> Begin:
    def make(
        search: Search = SEARCH_OF_SIX, launch: Launch | None = None, *findings: PreflightFinding
    ) -> RunningSearch:
        experiment = Experiment(tmp_path / "search")
        experiment.directory.mkdir(exist_ok=True)
        launch = launch or Launch(console=Console(quiet=True))
        return begin(search, planned(search, *findings), experiment, launch)

    return make


# ---------------------------------------------------------------- cohort after cohort
def test_a_search_runs_cohorts_to_its_budget(begun: Begin, batches: Batches) -> None:
    search = begun()
    run_cohorts(search)
    arms = [[one for one in batch if not one.spec().placement.is_baseline] for batch in batches]
    assert [len(batch) for batch in arms] == [3, 3]
    assert [len(batch) for batch in batches] == [5, 5]  # with the baseline of each quantization
    assert len({one.name for batch in arms for one in batch}) == 6
    assert search.searcher.asked_count == 6 and search.searcher.unfinished() == []
    by_id = {record.spec().trial_id: record for record in search.records()}
    for key, outcome in search.searcher.outcomes.items():
        best = by_id[key].best()
        assert outcome.values == ((best.metrics["exact_match"], best.metrics["irrelevant_pass"]) if best else ())
        assert (outcome.state == "pruned") == (str(by_id[key].verdict()) == "pruned(hallucination)")
    assert not any(is_baseline_point(vars(one.spec().placement)) for batch in arms for one in batch)


def test_a_finished_search_runs_nothing_and_a_larger_budget_continues_it(begun: Begin, batches: Batches) -> None:
    run_cohorts(begun())
    ran = len(batches)
    run_cohorts(begun())
    assert len(batches) == ran
    run_cohorts(begun(replace(SEARCH_OF_SIX, trials=8)))
    assert len(batches) == ran + 1


def test_a_search_that_was_stopped_runs_on_what_it_asked_for(
    begun: Begin, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(study: Any, experiment: Any, records: Sequence[Record], *_: Any) -> None:
        for record in records[:3]:  # both baselines and one trial
            finish(record)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(search_launch, "run_batch", killed)
        first = begun()
        with pytest.raises(KeyboardInterrupt):
            run_cohorts(first)
    left = {one.key for one in first.searcher.unfinished()}
    assert len(left) == 3
    again = begun()
    assert {one.key for one in again.searcher.unfinished()} == left
    run_cohorts(again)
    assert left <= again.searcher.outcomes.keys()
    assert again.searcher.asked_count == 6
    assert len([one for one in again.records() if not one.spec().placement.is_baseline]) == 6


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"sampler": "tpe"}, "sampler: nsga2 -> tpe"),
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"cohort": 4}, "cohort: 3 -> 4"),
        ({"objectives": ("exact_match",)}, "objectives: ['exact_match:higher', 'irrelevant_pass:higher'] -> "),
        ({"space": SMALL.changed({"rank": Choice((4,))})}, "space.rank: [4, 8, 16, 32] -> [4]"),
    ],
)
def test_another_search_under_the_same_name_is_refused(begun: Begin, change: dict[str, Any], expected: str) -> None:
    begun()
    with pytest.raises(UserError) as error:
        begun(replace(SEARCH_OF_SIX, **change))
    assert expected in error.value.message


@pytest.mark.parametrize("name", ["base", "train", "validation", "ood"])
def test_a_search_is_not_continued_on_other_data(name: str, begun: Begin, tmp_path: Path) -> None:
    begun()
    changed = replace(SOURCES, **{name: getattr(SOURCES, name).model_copy(update={"sha256": "of another day"})})
    search = planned(SEARCH_OF_SIX)
    with pytest.raises(UserError, match=f"{name}: "):
        begin(SEARCH_OF_SIX, replace(search, sources=changed), Experiment(tmp_path / "search"),
              Launch(console=Console(quiet=True)))  # fmt: skip


def test_another_holdout_is_refused_before_a_trial_is_begun_and_by_a_dry_run(
    begun: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def holdout(name: str) -> Holdout:
        return Holdout(*(Source(path=tmp_path / f"{name}{kind}", sha256=f"{name}{kind}") for kind in ("", "-ood")))

    launch = Launch(storage=tmp_path, console=Console(quiet=True))
    keep_holdout(tmp_path / "search", holdout("first"))
    monkeypatch.setattr(search_launch, "planned_holdout", lambda *_: holdout("other"))
    with pytest.raises(UserError, match="was begun with another --test"):
        begun(SEARCH_OF_SIX, launch)
    assert {path.name for path in (tmp_path / "search").iterdir()} == {"holdout.json", "study.json"}
    with pytest.raises(UserError, match="was begun with another --test"):
        SearchJob(SEARCH_OF_SIX, launch).check(planned(SEARCH_OF_SIX))
    monkeypatch.setattr(search_launch, "planned_holdout", lambda *_: holdout("first"))
    SearchJob(SEARCH_OF_SIX, launch).check(planned(SEARCH_OF_SIX))


def test_overridden_refusals_are_kept_with_the_trials_of_a_search(begun: Begin, batches: Batches) -> None:
    first = next(one for one in corners(SMALL, SEARCH.study, SOURCES) if one.steps == 60)
    refusal = PreflightFinding("refuse", "evals", "too few", "more", (first.name,))
    search = begun(SEARCH_OF_SIX, Launch(force=True, console=Console(quiet=True)), refusal)
    run_cohorts(search)
    arms = [one for one in search.records() if not one.spec().placement.is_baseline]
    marked = {one.name for one in arms if (one.directory / "overridden.json").exists()}
    assert marked == {one.name for one in arms if one.spec().steps == 60}
    assert marked
    assert (
        json.loads((search.experiment.directory / "trials" / min(marked) / "overridden.json").read_text())[0]["check"]
        == "evals"
    )


def test_the_forecast_of_a_cohort_is_there_before_it_trains_and_the_earlier_ones_stay(
    begun: Begin, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forecast_of(plan: Plan, specs: Sequence[TrialSpec]) -> list[TrialResources]:
        return [TrialResources(one.name, one.trial_id, TrialMemory(1, 0, 1, 1, 1), 1.0) for one in specs]

    def run_batch(study: Any, experiment: Experiment, records: Sequence[Record], *_: Any) -> None:
        kept = {one["trial_id"]: one["at_once"] for one in read_json(experiment.directory / "forecast.json")}
        begun_ids = {one.spec().trial_id for one in experiment.records() if not one.spec().placement.is_baseline}
        assert kept == dict.fromkeys(begun_ids, 5), "the width of the launch"
        batches.append(list(records))
        for record in records:
            if record.verdict() is None:
                finish(record)

    monkeypatch.setattr(search_launch, "forecast_of", forecast_of)
    monkeypatch.setattr(search_launch, "run_batch", run_batch)
    monkeypatch.setattr(search_launch, "remember_speed", lambda *_: None)  # these records tell no seconds
    run_cohorts(begun(SEARCH_OF_SIX, Launch(width=5, console=Console(quiet=True))))
    assert len(batches) == 2


# ---------------------------------------------------------------- the command line
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sampler", "tbe"), "--sampler must be one of nsga2, tpe, gp, random, but got `tbe`"),
        (("--objectives", "exact_mach"), "did you mean `exact_match`?"),
        (("--vary", "rnak=4"), "did you mean `rank`?"),
        (("--vary", "rank=4..2"), "--vary must be"),
        (("--scheduler", "asha"), "the metric of a scheduler must be the only objective"),
        (("--objectives", "exact_match", "--scheduler", "asha", "--scheduler-options", "grace=1"), "`grace_period`"),
        (("--vary", "rank=8..32"), "but got `rank` from 8 to 32"),
        (("--vary", "rank=a,b"), "hint: for example --vary rank=8,16,32"),
        (("--vary", "language=0", "--vary", "vision=0"), "hint: for example --vary language="),
        (("--vary", "rank=8", "--vary", "rank=16"), "`rank` is repeated: rank=8 and rank=16"),
        (("--resume",), "only a search that was begun can be resumed"),
    ],
)
def test_bad_options_are_explained_and_nothing_runs(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from sweeps.cli.search import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search_launch, "begin", lambda *_: pytest.fail("the search was begun"))
    monkeypatch.setattr("sys.argv", ["sweeps.search", *arguments])
    with pytest.raises(SystemExit) as ended:
        main(SEARCH)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert [one for name in ("search.db", "lock") for one in tmp_path.rglob(name)] == []


ONE_OBJECTIVE = ("--objectives", "exact_match", "--scheduler", "asha")


@pytest.mark.parametrize("dry_run", [("--dry-run",), ()], ids=["dry", "real"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (*ONE_OBJECTIVE, "--scheduler-options", "metric=eval_loss"),
            "the metric of a scheduler must be the only objective",
        ),
        (("--objectives", "exact_match:lower", "--scheduler", "asha"), "the objective is exact_match:lower"),
        (("--objectives", "eval_loss:higher", "--scheduler", "median"), "the objective is eval_loss:higher"),
        ((*ONE_OBJECTIVE, "--trials", "1"), "scheduler asha compares trials and needs 2 or more, but got 1"),
        ((*ONE_OBJECTIVE, "--scheduler-options", "grace_period=101"), "it first decides at step 120 of 120"),
    ],
)
def test_a_dry_run_refuses_the_scheduler_that_the_run_would(
    arguments: tuple[str, ...], message: str, dry_run: tuple[str, ...], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from sweeps.cli.search import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search_launch, "begin", lambda *_: pytest.fail("the search was begun"))
    monkeypatch.setattr("sys.argv", ["sweeps.search", *arguments, *dry_run])
    with pytest.raises(SystemExit) as ended:
        main(SEARCH)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("objective", ["exact_match", "exact_match:higher", "eval_loss:lower"])
def test_a_scheduler_needs_one_objective_in_its_metrics_direction(
    objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_planning, "gather_for", lambda *_: SOURCES)
    monkeypatch.setattr(search_planning, "plan_specs", lambda study, specs, *_: planned(search))
    search = replace(SEARCH_OF_SIX, objectives=(objective,))
    launch = Launch(scheduler=Asha(metric=objective.partition(":")[0]), console=Console(quiet=True))
    assert search_planning.plan_search(search, launch, tmp_path).specs


def test_the_plan_of_a_search_says_what_is_decided_at_its_evals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.hpo.plan_text.quality_grid", lambda _: "")
    monkeypatch.setattr("sweeps.display.plan_table.eval_cost_text", lambda *_: "")
    errors = guard_errors(SEARCH.study.guards, "tested", (("irrelevant", 192),), 6)
    plan = replace(planned(SEARCH_OF_SIX), guard_errors=errors, pick_rows={"irrelevant_pass": 48})
    console = Console(file=io.StringIO(), width=80)
    search = search_planning.planned_search(SEARCH_OF_SIX, plan)
    show_search(search, plan, Launch(storage=tmp_path, ood=tmp_path / "own.jsonl", console=console))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for line in (
        "3 to 6 evals a trial, one every 20 steps: ",
        "    irrelevant_pass (192 rows): stops ",
        "To be picked, ",
    ):
        assert line in shown
    assert "No holdout: " in shown
