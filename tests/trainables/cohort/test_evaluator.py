"""Tests the joint eval of many members: each is measured as it would be alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import packed
import pytest
from packed import LANGUAGE_LAYERS, VISION_BLOCKS
from small_trials import Sources

from trainables.cohort import evaluator as joint_eval
from trainables.cohort.evaluator import CohortEvaluator
from trainables.cohort.shared_forward import SharedForward
from trainables.data.encoding import chunks, collate
from trainables.engine import Engine
from trainables.evaluation import answering
from trainables.evaluation import evaluator as evaluate
from trainables.health.eval_integrity import Measured
from trainables.model.lora import Adapter
from trainables.probes.probe import Baseline
from trainables.spec import Placement, TrialSpec

DEPTHS = [(2, 0), (4, 0), (0, 3), (7, 2)]
LOUD = 0.6  # noise in lora_B that changes what a member says


@dataclass
class Members:
    """Four trained members, the eval of each alone, and a shared forward of them all."""

    engine: Engine
    baseline: Baseline
    specs: list[TrialSpec]
    solo: list[Measured]
    adapters: list[Adapter]
    shared: SharedForward = field(init=False)

    def measured(self, share: bool = True, numbers: tuple[int, ...] = (0, 1, 2, 3)) -> dict[int, Measured]:
        return self.jointly(lambda joint: joint.measure(dict.fromkeys(numbers, self.baseline), 1), share)

    def jointly(self, work: Any, share: bool = True) -> Any:
        self.shared = SharedForward(self.engine.base, self.adapters, share)
        try:
            return work(CohortEvaluator(self.engine.evaluator, self.shared))
        finally:
            self.shared.remove()


@pytest.fixture(scope="module")
def made(sources: Sources) -> Members:
    with packed.all_double():
        engine, baseline = packed.double_engine(sources), packed.short_baseline(packed.double_engine, sources)
        specs = [
            sources.spec(name=f"{language}-{vision}", placement=Placement(language=language, vision=vision), seed=seed)
            for seed, (language, vision) in enumerate(DEPTHS)
        ]
        solo = packed.measured_alone(engine, specs, baseline, LOUD)
        return Members(engine, baseline, specs, solo, packed.lifted(engine.base, specs, LOUD))


@pytest.fixture
def members(made: Members) -> Iterator[Members]:
    with packed.all_double():
        yield made


@pytest.mark.parametrize("share", [True, False])
def test_every_member_measures_what_it_measures_alone(members: Members, share: bool) -> None:
    measured = members.measured(share)
    packed.assert_measured_alike(measured, members.solo)


def test_a_part_of_the_members_is_measured_without_the_others(members: Members) -> None:
    measured = members.measured(numbers=(3, 1))
    assert list(measured) == [3, 1]
    for number in (1, 3):
        alone = members.solo[number]
        assert measured[number].answers == alone.answers
        assert measured[number].scores.metrics == pytest.approx(alone.scores.metrics, rel=1e-10, abs=1e-12)


def test_small_batches_measure_what_large_ones_do(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cohort splits the same rows into more batches, because the memory of a decode batch is bounded."""
    monkeypatch.setattr(evaluate, "GENERATION_TOKENS", 600)
    monkeypatch.setattr(evaluate, "LOSS_TOKENS", 600)
    monkeypatch.setattr(joint_eval, "LOSS_TOKENS", 600)
    for number, one in members.measured().items():
        alone = members.solo[number]
        assert one.answers == alone.answers and one.finding is None
        assert one.scores.metrics == pytest.approx(alone.scores.metrics, rel=1e-10, abs=1e-12)


def test_answers_are_completed_when_other_members_have_ended(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = members.engine.evaluator
    monkeypatch.setattr(evaluator, "max_new_tokens", 24)
    adapter = packed.grown(members.engine.base, members.specs[0], LOUD)
    members.engine.base.model.eval()
    questions = evaluator.questions[::3]
    alone = evaluator.ask(questions)
    adapter.remove()
    assert len({len(answer) for answer in alone.values()}) > 1
    everyone = (0, 1, 2, 3)
    prompts = evaluator.encode(questions)
    assert members.jointly(lambda joint: joint._answers(questions, prompts, everyone, {}, {}))[0] == alone


def test_controls_evaluate_one_member_alone(members: Members) -> None:
    questions = members.engine.evaluator.questions[:4]
    expected = {one.key: members.solo[3].answers[one.key] for one in questions}
    assert members.jointly(lambda joint: joint.asking(3).ask(questions)) == expected
    assert members.jointly(lambda joint: joint.asking(3).data) is members.engine.evaluator.data


# -------------------------------------------------------------------- computed once
def test_the_shared_part_of_the_prefill_is_computed_once(members: Members) -> None:
    evaluator = members.engine.evaluator
    with_pictures = [prompt for prompt in evaluator.prompts if prompt.views]
    batch = collate(with_pictures, evaluator.encoder, members.engine.base.device, pad_left=True)
    tokens, patches = batch.labels.numel(), len(batch.inputs["pixel_values"])

    def prefill(joint: CohortEvaluator) -> dict[str, list[int]]:
        from transformers import DynamicCache

        cache = DynamicCache(config=members.engine.base.model.config.get_text_config())
        with packed.counted(members.engine.base) as counts:
            _, groups = members.shared.prefill(batch.inputs, range(4), cache)
        assert len(groups) == 4
        assert {layer.keys.shape[0] for layer in cache.layers} == {4 * len(with_pictures)}  # ready for everyone
        return counts

    counts = members.jointly(prefill)
    assert counts["vision"] == [patches] * 9 + [2 * patches] + [3 * patches] * 2
    # the one with seven language layers is apart before DeepStack; those of two and four share up to the fourth
    # and of the last layer only the last position has an output
    rows = len(with_pictures)
    assert counts["language"] == [3 * tokens] * 4 + [4 * tokens] * 3 + [4 * rows]
    alone = members.jointly(prefill, share=False)
    layers = [4 * tokens] * (LANGUAGE_LAYERS - 1) + [4 * rows]
    assert alone == {"vision": [4 * patches] * VISION_BLOCKS, "language": layers}


def test_a_decode_batch_takes_as_many_prompts_as_its_members_leave_room_for(
    members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(rows: Any, tokens: int, *ratio: float) -> Any:
        asked.append(tokens)
        return chunks(rows, tokens, *ratio)

    monkeypatch.setattr(joint_eval, "chunks", counted)
    monkeypatch.setattr(answering, "chunks", counted)
    members.measured()
    assert set(asked) == {evaluate.GENERATION_TOKENS // 4, evaluate.LOSS_TOKENS // 4}


# -------------------------------------------------------------------- honesty, member by member
def test_only_the_member_with_replaced_answers_is_reported(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    answers_of = CohortEvaluator._answers

    def replaced(joint: CohortEvaluator, *given: Any) -> dict[int, dict[str, str]]:
        answers = answers_of(joint, *given)
        key = next(iter(answers[1]))
        answers[1][key] = "a better answer"
        return answers

    monkeypatch.setattr(CohortEvaluator, "_answers", replaced)
    findings = {number: one.finding for number, one in members.measured().items()}
    assert [number for number, finding in findings.items() if finding] == [1]
    assert findings[1] is not None and findings[1].check == "answers_not_generated"
    assert "a better answer" in findings[1].evidence


def test_a_member_with_another_members_answers_is_reported(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """The witness records all members in one pass, but compares each with its own rows."""
    answers_of = CohortEvaluator._answers

    def swapped(joint: CohortEvaluator, *given: Any) -> dict[int, dict[str, str]]:
        answers = answers_of(joint, *given)
        return {**answers, 2: answers[3]}

    monkeypatch.setattr(CohortEvaluator, "_answers", swapped)
    findings = {number: one.finding for number, one in members.measured().items()}
    assert [number for number, finding in findings.items() if finding] == [2]


def test_a_modified_decoder_is_reported_for_its_member_only(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    greedy = CohortEvaluator._greedy

    def with_opinions(joint: CohortEvaluator, *given: Any) -> Any:
        decoded = greedy(joint, *given)
        decoded.tokens[decoded.rows_of(0), 0] = 5
        return decoded

    monkeypatch.setattr(CohortEvaluator, "_greedy", with_opinions)
    findings = {number: one.finding for number, one in members.measured().items()}
    assert [number for number, finding in findings.items() if finding] == [0]
