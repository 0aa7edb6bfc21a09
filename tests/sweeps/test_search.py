"""A search as a launch, without Ray: what trials leave is written as an engine would, everything else is real."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import sweeps.search
from sweeps import search_launch
from sweeps.experiment import Experiment
from sweeps.fitting import Fitted
from sweeps.launch import Launch, Plan
from sweeps.plan import forecast
from sweeps.preflight import Finding, Preflight
from sweeps.search import SEARCH
from sweeps.search_launch import Begun, begin, run_cohorts
from sweeps.search_space import Choice, LogRange, Search, Space, corners, is_bare, parse_dimension, spec_of
from sweeps.sources import Sources
from trainables.errors import UserError
from trainables.mini import BASE_DIRECTORY
from trainables.record import Measurement, Record, Verdict, write_json
from trainables.spec import Source

KEPT = {"irrelevant_pass": 1.0, "hallucination": 0.0, "generalization_gap": 0.0, "caption_sanity": 1.0}
SOURCES = Sources(
    base=Source(path=BASE_DIRECTORY, sha256="ba5e"),
    **{name: Source(path=Path(name), sha256=name) for name in ("train", "validation", "ood")},
    train_rows=960,
    is_miniature=True,
)
FIVE = ("language", "vision", "rank", "epochs", "quantization")
SMALL = Space({name: SEARCH.space.dimensions[name] for name in FIVE})
SEARCH_OF_SIX = replace(SEARCH, space=SMALL, sampler="nsga2", trials=6, cohort=3)


def planned(search: Search, *findings: Finding) -> Plan:
    specs = list(corners(search.space, search.study, SOURCES))
    return Plan(SOURCES, forecast(specs, SOURCES.train_rows), Preflight({}, findings), Fitted(search.study))


def finish(record: Record) -> None:
    """Leave what an engine leaves: deep adapters fit and lose, those with both towers deep are pruned."""
    place = record.spec().placement
    depth = place.language + place.vision
    fit = {"eval_loss": 2.0 - depth / 10, "exact_match": depth / 10, **KEPT, "irrelevant_pass": 1 - depth / 100}
    record.append(Measurement("train", 20, {"adapter_parameters": float(depth)}))
    record.append(Measurement("eval", 0 if place.is_baseline else 20, fit))
    if depth >= 9:
        record.append(Measurement("eval", 40, {**fit, "hallucination": 0.5}))
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
    monkeypatch.setattr(search_launch, "ray_room", nothing)
    monkeypatch.setattr(search_launch, "run_batch", run_batch)
    return ran


Begin = Callable[..., Begun]


@pytest.fixture
def begun(tmp_path: Path) -> Begin:
    def make(search: Search = SEARCH_OF_SIX, launch: Launch | None = None, *findings: Finding) -> Begun:
        experiment = Experiment(tmp_path / "search")
        experiment.directory.mkdir(exist_ok=True)
        launch = launch or Launch(console=Console(quiet=True))
        return begin(search, planned(search, *findings), experiment, launch)

    return make


# ---------------------------------------------------------------- the study file and the space
def test_the_study_is_values_under_its_files_name() -> None:
    tree = ast.parse(Path(sweeps.search.__file__).read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda))]
    assert SEARCH.study.name == "search"
    for base in (SOURCES, replace(SOURCES, is_miniature=False)):
        assert all(
            spec.steps in (60, 120) for spec in corners(SEARCH.space, SEARCH.study, base) if spec.placement.language
        )


POINT = {
    "language": 2, "vision": 4, "rank": 8, "alpha_ratio": 4.0, "learning_rate": 3e-4, "vision_learning_rate": 1e-3,
    "dropout": 0.05, "quantization": "none", "epochs": 2.0,
}  # fmt: skip


def test_a_point_is_a_trial() -> None:
    spec = spec_of(POINT, SEARCH.study, SOURCES)
    assert (spec.placement.language, spec.placement.vision, spec.rank, spec.alpha) == (2, 4, 8, 32.0)
    assert (spec.learning_rate, spec.vision_learning_rate, spec.dropout) == (3e-4, 1e-3, 0.05)
    assert (spec.quantization, spec.steps) == ("none", 120)
    assert spec.name == f"L2-V4-r8-{spec.trial_id[:4]}"


@pytest.mark.parametrize(("tower", "rate"), [("language", "learning_rate"), ("vision", "vision_learning_rate")])
def test_the_rate_of_a_tower_without_adapter_makes_no_other_trial(tower: str, rate: str) -> None:
    without = {**POINT, tower: 0}
    one, other = (spec_of({**without, rate: value}, SEARCH.study, SOURCES) for value in (1e-4, 2e-4))
    assert one.trial_id == other.trial_id
    one, other = (spec_of({**POINT, rate: value}, SEARCH.study, SOURCES) for value in (1e-4, 2e-4))
    assert one.trial_id != other.trial_id


def test_the_plan_sees_every_edge_and_the_baseline_of_every_quantization() -> None:
    specs = list(corners(SEARCH.space, SEARCH.study, SOURCES))
    bare = [one for one in specs if one.placement.is_baseline]
    assert [one.quantization for one in bare] == ["nf4-double", "none"]
    assert specs[: len(bare)] == bare
    arms = specs[len(bare) :]
    assert {one.rank for one in arms} == {4, 8, 16, 32}
    assert {one.steps for one in arms} == {60, 120}
    assert {one.placement.language for one in arms} == {0, 1, 2, 3, 4}
    assert {5e-5, 1e-3} <= {one.learning_rate for one in arms}
    one_base = SEARCH.space.changed({"quantization": Choice(("none",))})
    assert next(corners(one_base, SEARCH.study, SOURCES)).name == "A0"


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("rank=16,4", ("rank", Choice((4, 16)))),
        ("dropout=0.1", ("dropout", Choice((0.1,)))),
        ("quantization=none,int8", ("quantization", Choice(("int8", "none")))),
        ("learning_rate=1e-4..1e-3", ("learning_rate", LogRange(1e-4, 1e-3))),
    ],
)
def test_a_dimension_is_read(text: str, dimension: tuple[str, Choice | LogRange]) -> None:
    assert parse_dimension(text) == dimension


@pytest.mark.parametrize("text", ["rank", "rank=", "learning_rate=1e-3..1e-4", "learning_rate=0..1", "rank=a..b"])
def test_what_is_no_dimension_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--vary must be"):
        parse_dimension(text)


def test_a_space_is_refused_by_name() -> None:
    with pytest.raises(UserError) as error:
        SEARCH.space.changed({"learning_rte": Choice((1e-4,))})
    assert error.value.hint == "did you mean `learning_rate`?"
    with pytest.raises(UserError, match="`epochs` and `steps` both"):
        Space({**SEARCH.space.dimensions, "steps": Choice((60,))})
    assert "epochs" not in SEARCH.space.changed({"steps": Choice((60,))}).dimensions


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
    assert not any(is_bare(vars(one.spec().placement)) for batch in arms for one in batch)


def test_a_finished_search_runs_nothing_and_a_larger_budget_goes_on(begun: Begin, batches: Batches) -> None:
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
    ("change", "said"),
    [
        ({"sampler": "tpe"}, "sampler: nsga2 -> tpe"),
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"cohort": 4}, "cohort: 3 -> 4"),
        ({"objectives": ("exact_match",)}, "objectives: ['exact_match:higher', 'irrelevant_pass:higher'] -> "),
        ({"space": SMALL.changed({"rank": Choice((4,))})}, "space.rank: [4, 8, 16, 32] -> [4]"),
    ],
)
def test_another_search_under_the_same_name_is_refused(begun: Begin, change: dict[str, Any], said: str) -> None:
    begun()
    with pytest.raises(UserError) as error:
        begun(replace(SEARCH_OF_SIX, **change))
    assert said in error.value.message


def test_what_force_overrode_stands_beside_the_trials_it_concerns(begun: Begin, batches: Batches) -> None:
    first = next(one for one in corners(SMALL, SEARCH.study, SOURCES) if one.steps == 60)
    refusal = Finding("refuse", "evals", "too few", "more", (first.name,))
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


# ---------------------------------------------------------------- the command line
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sampler", "tbe"), "--sampler must be one of nsga2, tpe, gp, random, but got `tbe`"),
        (("--objectives", "exact_mach"), "did you mean `exact_match`?"),
        (("--vary", "rnak=4"), "did you mean `rank`?"),
        (("--vary", "rank=4..2"), "--vary must be"),
        (("--scheduler", "asha"), "a scheduler decides on one objective"),
        (("--objectives", "exact_match", "--scheduler", "asha", "--scheduler-options", "grace=1"), "`grace_period`"),
        (("--resume",), "only a search that was begun can be resumed"),
    ],
)
def test_bad_options_are_explained_and_nothing_is_spent(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from sweeps.search_command import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["sweeps.search", *arguments])
    with pytest.raises(SystemExit) as ended:
        main(SEARCH)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.rglob("search.db")) == []
