"""Tests the forecast of what an eval costs, in steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.planning.data_quality import FileQuality, file_quality
from sweeps.planning.eval_cost import (
    PASSES_DECODED,
    PASSES_WITH_DRAFTS,
    eval_cost_text,
    eval_rows,
    eval_steps,
    passes_of,
)
from sweeps.planning.forecast import Forecast
from trainables.data.scan import ScannedRow
from trainables.mini import BASE_DIRECTORY
from trainables.model.families import family_of
from trainables.model.placement import resolve
from trainables.spec import Placement, ProbeRequest, Source, TrialSpec

SOURCES = {key: Source(path=Path(key), sha256=key) for key in ("base", "train", "validation", "ood")}


def rows(count: int, tokens: int, supervised: int = 0, picture: bool = False) -> FileQuality:
    shown, lengths = ("p",) if picture else (), {"tokens": tokens, "supervised_tokens": supervised}
    return file_quality([ScannedRow(str(number), f"q{number}", "a", shown, **lengths) for number in range(count)])


def data(picture: bool = False) -> dict[str, FileQuality]:
    return {"train": rows(100, 50, 10), "validation": rows(20, 50, 10, picture), "ood": rows(60, 30)}


def of(placement: Placement, share: float, **settings: object) -> Forecast:
    spec = TrialSpec(name="a", placement=placement, batch_rows=4, **settings, **SOURCES)  # type: ignore[arg-type]
    family, config = family_of(BASE_DIRECTORY)
    return Forecast(spec, resolve(placement, family.towers(config)), 1.0, 5, backward_share=share)


def test_the_rows_of_an_eval_are_those_that_it_asks() -> None:
    spec = of(Placement(language=2), 0.25).spec
    found = eval_rows(data(), (("irrelevant", 50), ("text", 10)), spec, sees=True)
    assert (found.validation, found.train_slice, found.crops) == (1000, 64 * 50, 0)
    assert found.outside == pytest.approx((60 - 2) * (30 + 10)), (
        "without the reserve, with answers as long as the task's"
    )
    assert found.tokens == pytest.approx(1000 + 3200 + 58 * 40)
    pictured = eval_rows(data(picture=True), (("text", 60),), spec, sees=True)
    assert pictured.crops == 3 * 8 * 50 and eval_rows(data(True), (("text", 60),), spec, sees=False).crops == 0
    assert eval_rows(data(), (), spec.model_copy(update={"train_slice_rows": 8}), True).train_slice == 400
    assert eval_rows(data(), (), spec.model_copy(update={"train_slice_rows": 999}), True).train_slice == 5000


def test_a_step_that_goes_back_through_more_layers_makes_an_eval_cheaper() -> None:
    shallow, deep = of(Placement(language=2), 0.25), of(Placement(language=8), 1.0)
    found = eval_rows(data(), (("text", 60),), shallow.spec, sees=False)
    assert eval_steps(found, data()["train"], shallow, 1.5) == pytest.approx(1.5 * found.tokens / (4 * 50 * 1.25))
    assert eval_steps(found, data()["train"], deep, 2.0) == pytest.approx(2.0 * found.tokens / (4 * 50 * 2.0))


def test_evals_that_use_no_drafts_cost_what_decoding_does() -> None:
    assert passes_of(of(Placement(language=2), 0.25).spec) == PASSES_WITH_DRAFTS
    for settings in ({"compute_dtype": "bfloat16"}, {"quantization": "int8"}):
        assert passes_of(of(Placement(language=2), 0.25, **settings).spec) == PASSES_DECODED


def test_the_plan_says_it_for_trials_that_train() -> None:
    shallow, deep, baseline = of(Placement(language=2), 0.25), of(Placement(language=8), 1.0), of(Placement(), 0.0)
    text = eval_cost_text([baseline, shallow, deep], data(), (("text", 60),), sees=False)
    assert text.startswith(
        "An eval costs some 21 to 61 steps of a trial alone: 1.3 to 2.3 passes over 6,600 tokens (1,000 of"
    )
    assert eval_cost_text([shallow], data(), (("text", 60),), False).startswith("An eval costs some 34 to 61 steps")
    assert eval_cost_text([baseline], data(), (), False) == ""


# -------------------------------------------------------------------- probes that a study asks for beside its own
TASK = ProbeRequest(suite="lm-eval", task="own")


def test_the_shift_passes_the_general_rows_once_and_once_without_each_towers_lora() -> None:
    spec = of(Placement(language=2), 0.25, probes=(ProbeRequest(suite="shift"),)).spec
    kinds = (("command", 7), ("irrelevant", 50), ("text", 10))
    seen, text = (eval_rows(data(), kinds, spec, sees) for sees in (True, False))
    general = 50 + 10 - 2  # the reserve is not asked, and commands are no general rows
    assert text.shift == pytest.approx(general * (30 + 10)) and seen.shift == pytest.approx(3 * text.shift)
    assert eval_rows(data(), kinds, of(Placement(language=2), 0.25).spec, True).shift == 0
    assert seen.tokens == eval_rows(data(), kinds, of(Placement(language=2), 0.25).spec, True).tokens


def test_tasks_of_a_suite_cost_what_they_read_and_write_in_one_pass() -> None:
    with_task = of(Placement(language=2), 0.25, probes=(TASK,))
    suites = {TASK: 5000, ProbeRequest(suite="lm-eval", task="of another trial"): 9}
    found = eval_rows(data(), (("text", 60),), with_task.spec, False, suites)
    assert found.suites == 5000 and found.computed(2.0) == 2.0 * found.tokens + 5000
    dearer = eval_steps(found, data()["train"], with_task, 2.0)
    cheaper = eval_steps(eval_rows(data(), (("text", 60),), with_task.spec, False), data()["train"], with_task, 2.0)
    assert dearer - cheaper == pytest.approx(5000 / (4 * 50 * 1.25))
    told = eval_cost_text([with_task], data(), (("text", 60),), False, suites)
    assert "task), and once 5,000 tokens for tasks of lm-eval (answers at their longest), by how" in told
