"""Tests that an experiment keeps how its guards decide, and that earlier formats keep the literal reading."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.cli.options import LaunchOptions
from sweeps.execution.experiment import Experiment
from sweeps.planning.plan import plan_specs
from sweeps.planning.sources import gather
from sweeps.planning.space import Axes, expand
from sweeps.stage4 import STUDY
from sweeps.study import as_begun, kept_reading, rules_of
from trainables.decision import Stop
from trainables.errors import UserError
from trainables.guards import GUARDS
from trainables.measurement import Measurement
from trainables.spec import Placement, Source, TrialSpec
from trainables.tested_guards import BinomialGuard, GapGuard, SequentialGuard
from trainables.workers.protocol import Rules


@pytest.mark.parametrize(
    ("spec_format", "chosen", "reading"),
    [(1, None, "exact"), (2, None, "exact"), (2, "tested", "exact"), (3, None, "tested"), (3, "exact", "exact")],
)
def test_guards_are_tested_unless_an_earlier_format_or_the_launch_says_otherwise(
    spec_format: int, chosen: str | None, reading: str
) -> None:
    assert as_begun(STUDY, spec_format, chosen).reading == reading  # type: ignore[arg-type]


def test_the_reading_is_kept_and_compared(tmp_path: Path) -> None:
    tested, exact = (rules_of(replace(STUDY, reading=one)) for one in ("tested", "exact"))
    assert tested.keys() - exact.keys() == {"guard_test"} and tested["guards"] == exact["guards"]
    assert (kept_reading(tested), kept_reading(exact)) == ("tested", "exact")
    experiment = Experiment(tmp_path / "begun")
    experiment.directory.mkdir()
    experiment.configure({"format": 3, **tested})
    experiment.configure({"format": 3, **tested})
    with pytest.raises(UserError, match="begun with another configuration: guard_test"):
        experiment.configure({"format": 3, **exact})


def test_the_option_takes_two_words(tmp_path: Path) -> None:
    assert LaunchOptions().launch("x").reading is None
    assert LaunchOptions(guards="exact").launch("x").reading == "exact"
    with pytest.raises(UserError, match="--guards must be tested or exact, but got `exakt`") as caught:
        LaunchOptions(guards="exakt").launch("x")
    assert caught.value.hint and "exact" in caught.value.hint


def test_a_trial_shares_its_error_over_its_own_evals() -> None:
    source = Source(path=Path("/rows"), sha256="0" * 64)
    files = dict.fromkeys(("base", "train", "validation", "ood"), source)
    spec = TrialSpec(name="A1", arm="A1", placement=Placement(language=1), steps=100, eval_every_steps=30, **files)
    rules = Rules({}, GUARDS, STUDY.constraint, "tested")
    kinds = [SequentialGuard, SequentialGuard, GapGuard, BinomialGuard]
    for planned, evals in ((spec, 4), (spec.model_copy(update={"init_from": source}), 5)):
        guards = rules.guards_for(planned)
        assert [type(guard) for guard in guards] == kinds
        assert {guard.planned_evals for guard in guards} == {evals}  # type: ignore[attr-defined]
    exact = replace(rules, reading="exact").guards_for(spec)
    assert exact == GUARDS
    low = [Measurement("eval", step, {"irrelevant_pass": 0.79}) for step in (30, 60)]
    assert isinstance(exact[0].decide(Measurement("eval", 0, {"irrelevant_pass": 1.0}), low), Stop)


@pytest.mark.slow
def test_a_plan_states_the_errors_on_the_rows_that_its_format_reads(tmp_path: Path) -> None:
    sources = gather(None, None, None, None, tmp_path / "data")
    new = [spec for spec in expand(STUDY, Axes(only=("C2",)), sources) if not spec.placement.is_baseline]
    read = []
    for spec_format in (3, 2):
        planned = plan_specs(
            replace(STUDY, reading="exact"), [one.model_copy(update={"format": spec_format}) for one in new], sources
        )
        read.append({one.metric: one.rows for one in planned.guard_errors})
    assert read[0]["irrelevant_pass"] == 48 and read[1]["irrelevant_pass"] == 192
    assert read[0]["caption_sanity"] == read[1]["caption_sanity"] == 30
