"""Honest evaluation: what was scored was said by the model; lookups and broken scorers are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_trials import SpecMaker, finish, opened

from trainables.constraint import CONSTRAINT
from trainables.data.rows import Message, Row
from trainables.engine import Engine
from trainables.health import eval_controls, eval_integrity
from trainables.health.criteria import labels
from trainables.health.eval_controls import (
    ExactRows,
    judge_bare,
    judge_exact,
    judge_nonsense,
    judge_null,
    judge_shuffled,
)
from trainables.health.eval_integrity import judge_answers
from trainables.probes.probe import Baseline, ProbeData
from trainables.probes.question import ask_validation
from trainables.record import Measurement, Record
from trainables.spec import Placement


def rows(*answers: str) -> ProbeData:
    """Validation rows with these references and nothing else."""
    made = [
        Row(str(number), (Message("user", "Report."), Message("assistant", answer)), ())
        for number, answer in enumerate(answers)
    ]
    return ProbeData(tuple(made), (), (), frozenset())


def given(data: ProbeData, *answers: str) -> dict[str, str]:
    return {ask_validation(row).key: answer for row, answer in zip(data.validation, answers, strict=True)}


# ---------------------------------------------------------------- said and scored
@pytest.mark.parametrize(
    ("answers", "said", "questions", "fires"),
    [
        ({"a": "x", "b": "y"}, ["y", "x"], 2, False),
        ({"a": "x", "b": "x"}, ["x", "x"], 2, False),
        ({"a": "x", "b": "x"}, ["x", "y"], 2, True),
        ({"a": "x", "b": "y"}, [], 2, True),
        ({"a": "x"}, ["x", "y"], 2, True),
        ({"a": "x", "b": "y"}, ["x", "y", "z"], 2, True),
    ],
)
def test_answers_are_those_the_model_was_heard_to_say(
    answers: dict, said: list[str], questions: int, fires: bool
) -> None:
    finding = judge_answers(30, answers, questions, said, [])
    assert (finding is not None) is fires
    if finding:
        assert (finding.check, finding.level, finding.step) == ("answers_not_generated", "invalid", 30)


def test_the_witness_hears_exactly_what_was_answered(engine: Engine, baseline: Baseline) -> None:
    evaluator = engine.evaluator
    with eval_integrity.Witness(engine.base.model, engine.encoder.tokenizer, engine.encoder.answer_ends) as witness:
        _, answers = evaluator.measure(None)
    assert sorted(witness.answers()) == sorted(answers.values())
    assert witness.rows == len(evaluator.questions) == len(answers)
    assert witness.forwards > 1
    measured = eval_integrity.measure(evaluator, None, 0)
    assert (measured.scores.metrics, measured.finding) == (baseline.metrics, None)
    assert measured.answers == answers


def lookup_instance(evaluator: Any, table: dict[str, str], patch: pytest.MonkeyPatch) -> str:
    """A patched decoder: known answers are looked up, the rest is generated."""
    original = evaluator._answers
    patch.setattr(evaluator, "_answers", lambda qs, ps: original(qs, ps) | {q.key: table[q.key] for q in qs if q.key in table})  # fmt: skip  # noqa: E501
    return "Evaluator._answers of this instance"


def lookup_class(evaluator: Any, table: dict[str, str], patch: pytest.MonkeyPatch) -> str:
    patch.setattr(type(evaluator), "_answers", lambda self, qs, ps: {q.key: table.get(q.key, "") for q in qs})
    return "Evaluator._answers by"


def lookup_generate(evaluator: Any, table: dict[str, str], patch: pytest.MonkeyPatch) -> str:
    import torch

    answer = torch.tensor([evaluator.encoder.tokenizer(next(iter(table.values())))["input_ids"]])

    def generate(**keywords: Any) -> Any:
        tokens = keywords["input_ids"]
        return torch.cat([tokens, answer.expand(len(tokens), -1)], dim=1)

    patch.setattr(evaluator.base.model, "generate", generate)
    return ".generate of this instance"


def lookup_decode(evaluator: Any, table: dict[str, str], patch: pytest.MonkeyPatch) -> str:
    tokenizer = evaluator.encoder.tokenizer
    patch.setattr(tokenizer, "batch_decode", lambda rows, **_: [next(iter(table.values()))] * len(rows))
    return ".batch_decode of this instance"


@pytest.mark.parametrize("plant", [lookup_instance, lookup_class, lookup_generate, lookup_decode])
def test_a_lookup_of_the_references_is_found_and_named(
    plant: Callable[..., str], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = engine.evaluator
    table = {ask_validation(row).key: row.answer for row in evaluator.data.validation}
    named = plant(evaluator, table, monkeypatch)
    finding = eval_integrity.measure(evaluator, None, 30).finding
    assert finding is not None and finding.check == "answers_not_generated"
    assert named in finding.evidence


def test_a_lookup_ends_the_trial_and_leaves_no_score(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {ask_validation(row).key: row.answer for row in engine.evaluator.data.validation}
    lookup_instance(engine.evaluator, table, monkeypatch)
    for name, spec in (("trial", make_spec()), ("baseline", make_spec().baseline())):
        with opened(engine, spec, tmp_path / name, baseline) as trial:
            assert str(finish(trial)) == "invalid(answers_not_generated)"
        assert Record(tmp_path / name).evals() == [] and Record(tmp_path / name).best() is None


# ---------------------------------------------------------------- controls
def test_a_score_that_labels_do_not_change_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = rows("red", "green", "blue")
    honest = given(data, "red", "green", "blue")
    assert judge_shuffled(30, data, honest, exact_match=1.0) is None
    monkeypatch.setattr(eval_controls, "same_answer", lambda answer, expected: True)
    assert judge_shuffled(30, data, honest, exact_match=1.0) is None, "it cannot even tell the references apart"


def test_shuffled_labels_find_a_score_that_is_always_good() -> None:
    data = rows("red", "green")
    swapped = given(data, "green", "red")
    finding = judge_shuffled(30, data, swapped, exact_match=1.0)
    assert finding is not None and finding.check == "shuffled_labels"
    assert judge_shuffled(30, data, swapped, exact_match=0.2) is None, "nothing to judge in a trial that fits nothing"


def test_nonsense_is_answered_by_no_model_and_by_every_lookup(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = engine.evaluator
    data = rows("lamp red.", "lamp green.", "lamp blue.", "lamp off.")
    monkeypatch.setattr(evaluator, "data", data)
    assert judge_nonsense(30, evaluator) is None
    known = {row.row_id: row.answer for row in data.validation}
    monkeypatch.setattr(evaluator, "_answers", lambda questions, _: {q.key: known[q.key.split("/")[1]] for q in questions})  # fmt: skip  # noqa: E501
    finding = judge_nonsense(30, evaluator)
    assert finding is not None and finding.check == "nonsense_prompts" and "100%" in finding.evidence


def test_the_baseline_is_measured_with_no_adapter_on(engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path) -> None:  # fmt: skip  # noqa: E501
    with opened(engine, make_spec(), tmp_path / "adapted", baseline):
        finding = judge_bare(0, engine.base.model)
        assert finding is not None and finding.check == "baseline_adapted" and "22 modules" in finding.evidence
        with opened(engine, make_spec().baseline(), tmp_path / "baseline", None) as trial:
            assert str(finish(trial)) == "invalid(baseline_adapted)"
    assert judge_bare(0, engine.base.model) is None


@pytest.mark.parametrize("size", [0.05, 0.5, 5.0])
def test_a_random_adapter_passes_nothing(
    size: float, engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    import torch

    spec = make_spec(placement=Placement(language=2))
    with opened(engine, spec, tmp_path / "t", baseline) as trial:
        torch.manual_seed(0)
        for name, parameter in trial.adapter.trained():
            if "lora_B" in name:
                parameter.data.normal_(std=size)
        measured = eval_integrity.measure(engine.evaluator, baseline, 30)
    metrics = measured.scores.metrics
    assert measured.finding is None, "it is honest, and useless"
    found = labels(baseline.metrics, [Measurement("eval", 30, metrics)])
    assert not found["minimum"]["met"] and not found["optimal"]["met"]
    assert metrics["exact_match"] == 0.0
    assert CONSTRAINT.admits(baseline.metrics, metrics) is (size < 5.0), "noise this large costs generality, too"


# ---------------------------------------------------------------- a null model
@pytest.mark.parametrize(
    ("found", "fires"),
    [
        (ExactRows(24, trained=20, null=20, baseline=0), True),
        (ExactRows(24, trained=20, null=0, baseline=0), False),
        (ExactRows(24, trained=20, null=11, baseline=0), True),
        (ExactRows(24, trained=20, null=10, baseline=0), False),  # half of the gain
        (ExactRows(24, trained=6, null=6, baseline=0), True),
        (ExactRows(24, trained=5, null=5, baseline=0), False),  # fits too little to be judged
        (ExactRows(24, trained=22, null=22, baseline=16), True),
        (ExactRows(24, trained=22, null=19, baseline=16), False),
        (ExactRows(24, trained=22, null=18, baseline=16), False),  # noise around a base that knows the task
        (ExactRows(24, trained=24, null=24, baseline=19), False),  # little is left to gain
        (ExactRows(8, trained=4, null=3, baseline=0), True),
        (ExactRows(8, trained=4, null=4, baseline=2), False),  # two rows may be luck
        (ExactRows(2, trained=2, null=2, baseline=0), False),
    ],
)
def test_a_random_adapter_may_score_what_the_base_scores_and_no_more(found: ExactRows, fires: bool) -> None:
    finding = judge_exact(30, found)
    assert (finding is not None) is fires
    if finding:
        assert (finding.check, finding.level, finding.step) == ("null_model", "invalid", 30)
        assert f"{found.null} of {found.rows} validation rows" in finding.evidence


def test_noise_is_as_large_as_the_adapter_repeats_and_leaves_no_trace(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    import torch

    with opened(engine, make_spec(), tmp_path / "t", baseline) as trial:
        finish(trial)
        before = {name: p.detach().clone() for name, p in trial.adapter.trained()}
        random_state, draws = torch.get_rng_state(), []
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt), eval_controls.randomized(trial.adapter):
                draws.append({name: p.detach().clone() for name, p in trial.adapter.trained()})
                raise KeyboardInterrupt
        after = {name: p.detach() for name, p in trial.adapter.trained()}
    assert torch.equal(torch.get_rng_state(), random_state), "dropout draws from the same generator"
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(torch.equal(draws[1][name], tensor) for name, tensor in draws[0].items())
    for name, tensor in before.items():
        assert float(draws[0][name].norm() / tensor.norm()) == pytest.approx(1.0, abs=0.2)
        assert abs(float(torch.cosine_similarity(draws[0][name].flatten(), tensor.flatten(), dim=0))) < 0.3


def fit(evaluator: Any, parameters: list[Any]) -> None:
    """Fit parameters to the rows of validation until every answer is the reference."""
    import torch
    from torch.nn.functional import cross_entropy

    from trainables.data.encoding import collate
    from trainables.evaluation.evaluator import label_logits

    batch = collate(evaluator.validation, evaluator.encoder, evaluator.base.device, pad_left=False)
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0)
    for _ in range(30):
        cross_entropy(*label_logits(evaluator.base, batch)).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_fitted_adapter_passes_where_noise_does_not_unless_the_answers_come_from_elsewhere(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator, asked = engine.evaluator, []
    original = evaluator.ask
    monkeypatch.setattr(evaluator, "ask", lambda questions: asked.append(len(questions)) or original(questions))
    with opened(engine, make_spec(dropout=0.0), tmp_path / "t", baseline) as trial:
        _, fresh = evaluator.measure(baseline)
        assert judge_null(30, evaluator, trial.adapter, fresh, baseline) is None
        assert asked == [], "nothing was gained, so nothing is asked"
        fit(evaluator, [parameter for _, parameter in trial.adapter.trained()])
        scores, answers = evaluator.measure(baseline)
        assert scores.metrics["exact_match"] == 1.0
        assert judge_null(30, evaluator, trial.adapter, answers, baseline) is None
        assert asked == [3], "noise answers none of the few, so the others are not asked"
        assert evaluator.measure(baseline) == (scores, answers), "the trained adapter is back"
        monkeypatch.setattr(evaluator, "ask", lambda questions: {one.key: answers[one.key] for one in questions})
        finding = judge_null(30, evaluator, trial.adapter, answers, baseline)
    assert finding is not None and finding.check == "null_model" and "3 of 3 validation rows" in finding.evidence
