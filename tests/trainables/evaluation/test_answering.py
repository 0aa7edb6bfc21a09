"""Tests that drafts change nothing: answers equal those of transformers' `generate`, whatever was drafted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import packed
import pytest
import torch
from small_trials import Sources

from trainables.cohort.evaluator import CohortEvaluator
from trainables.cohort.shared_forward import SharedForward
from trainables.data.encoding import collate
from trainables.engine import Engine
from trainables.evaluation import near_ties
from trainables.evaluation.drafts import Partial
from trainables.evaluation.evaluator import Evaluator
from trainables.health import eval_integrity
from trainables.probes.question import ask_ood, ask_validation
from trainables.spec import Placement

NEW_TOKENS = 10
LOUD = 1.0  # noise in lora_B that changes what a trial answers
DEPTHS = [(2, 0), (4, 0), (0, 3)]
Answers = dict[str, tuple[int, ...]]


@pytest.fixture
def engine(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    with packed.all_double():
        engine = packed.double_engine(sources)
        engine.base.model.eval()
        monkeypatch.setattr(engine.evaluator, "max_new_tokens", NEW_TOKENS)
        yield engine


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    return {}


def generated(evaluator: Evaluator) -> Answers:
    """Answer every question with transformers' `generate`, one prompt at a time."""
    encoder, found = evaluator.encoder, {}
    for question, prompt in zip(evaluator.questions, evaluator.prompts, strict=True):
        batch = collate([prompt], encoder, evaluator.base.device, pad_left=True)
        tokens = evaluator.base.model.generate(
            **batch.inputs, do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=list(encoder.answer_ends),
            pad_token_id=encoder.tokenizer.pad_token_id,
        )  # fmt: skip
        found[question.key] = tuple(tokens[0, len(prompt.tokens) :].tolist())
    return found


@pytest.fixture
def adapted(engine: Engine, sources: Sources, kept: dict[str, Any]) -> Iterator[Answers]:
    """Put a loud adapter on the base; yields what `generate` answers."""
    adapter = packed.grown(engine.base, spec_of(sources, 0), LOUD)
    engine.base.model.eval()
    if "answers" not in kept:
        kept["answers"] = generated(engine.evaluator)
    answers: Answers = kept["answers"]
    assert len(set(answers.values())) > 3 and {4, NEW_TOKENS} < set(map(len, answers.values()))
    yield answers
    adapter.remove()


def spec_of(sources: Sources, number: int) -> Any:
    language, vision = DEPTHS[number]
    return sources.spec(name=f"m{number}", placement=Placement(language=language, vision=vision), seed=number)


def recorded(evaluator: Evaluator, drafts: Sequence[Mapping[str, Sequence[int]]] | None) -> Answers:
    """Return the tokens of all answers of an eval; every one of them was recorded by the witness."""
    measured = eval_integrity.measure(evaluator, None, 1, drafts)
    assert measured.finding is None
    return {key: tuple(one) for key, one in measured.tokens.items()}


def other(token: int) -> int:
    return 5 if token != 5 else 6  # plain text: a token that structures turns would leave the text as it is


def neighbours(answers: Answers) -> Answers:
    values = list(answers.values())
    return dict(zip(answers, [*values[1:], values[0]], strict=True))


DRAFTS: dict[str, Callable[[Answers], Answers]] = {
    "right": lambda answers: answers,
    "wrong at first": lambda answers: {key: (other(one[0]), *one[1:]) for key, one in answers.items()},
    "wrong at last": lambda answers: {key: (*one[:-1], other(one[-1])) for key, one in answers.items()},
    "too long": lambda answers: {key: one + one for key, one in answers.items()},
    "too short": lambda answers: {key: one[:2] for key, one in answers.items()},
    "empty": lambda answers: dict.fromkeys(answers, ()),
    "ends at once": lambda answers: {key: (1, *one) for key, one in answers.items()},
    "of other rows": neighbours,
    "of unknown rows": lambda answers: {f"{key}?": one for key, one in answers.items()},
    "of some rows": lambda answers: dict(list(answers.items())[::2]),
}


@pytest.mark.parametrize("kind", DRAFTS)
def test_answers_are_those_of_generate_whatever_is_drafted(kind: str, engine: Engine, adapted: Answers) -> None:
    found = recorded(engine.evaluator, [DRAFTS[kind](adapted)])
    assert found == adapted


def test_answers_are_those_of_generate_without_any_draft(engine: Engine, adapted: Answers) -> None:
    assert recorded(engine.evaluator, None) == recorded(engine.evaluator, ()) == adapted


def test_an_answer_that_ends_early_in_a_draft_is_not_cut(engine: Engine, adapted: Answers) -> None:
    end = engine.encoder.answer_ends[0]
    found = recorded(engine.evaluator, [{key: (*one[:1], end, *one[1:]) for key, one in adapted.items()}])
    assert found == adapted


def test_right_drafts_leave_nothing_to_decode(
    engine: Engine, adapted: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("a prompt was decoded")

    monkeypatch.setattr(engine.evaluator, "greedy", refuse)
    assert recorded(engine.evaluator, [neighbours(adapted), adapted]) == adapted


def test_a_second_draft_goes_on_where_the_first_is_wrong(
    engine: Engine, adapted: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = DRAFTS["wrong at last"](adapted)
    monkeypatch.setattr(engine.evaluator, "greedy", None)
    assert recorded(engine.evaluator, [first, adapted]) == adapted


def test_an_answer_at_the_limit_stays_cut(engine: Engine, adapted: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.evaluator, "max_new_tokens", 4)
    cut = {key: one[:4] for key, one in adapted.items()}
    for drafts in (None, [adapted], [DRAFTS["wrong at last"](cut)], [{key: one[:3] for key, one in adapted.items()}]):
        assert recorded(engine.evaluator, drafts) == cut


# ---------------------------------------------------------------- references
def test_a_reference_answers_its_row_in_the_pass_that_measures_its_loss(
    engine: Engine, adapted: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The references become what the trial answers: then no validation row is verified or decoded apart."""
    evaluator = engine.evaluator
    keys = [ask_validation(row).key for row in evaluator.data.validation]
    rows = []
    for row, key in zip(evaluator.validation, keys, strict=True):
        prompt = evaluator.prompts[[one.key for one in evaluator.questions].index(key)]
        tokens = [*prompt.tokens, *adapted[key]]
        labels = [-100] * len(prompt.tokens) + list(adapted[key])
        rows.append(type(row)(tokens, labels, row.views))
    monkeypatch.setattr(evaluator, "validation", rows)
    found: dict[tuple[int, str], Partial] = {}
    evaluator._losses(evaluator.validation, found)
    assert {key: one.tokens for (_, key), one in found.items()} == {key: adapted[key] for key in keys}
    assert all(one.done for one in found.values())
    assert recorded(evaluator, ()) == adapted


def test_a_row_with_another_prompt_than_its_question_is_no_draft(engine: Engine) -> None:
    evaluator = engine.evaluator
    assert all(row is not None for row in evaluator.references((0,)))
    row = evaluator.validation[0]
    changed = type(row)([other(row.tokens[0]), *row.tokens[1:]], row.labels, row.views)
    evaluator.validation[0] = changed
    try:
        assert [one is None for one in evaluator.references((0,))] == [True, False, False]
    finally:
        evaluator.validation[0] = row


# ---------------------------------------------------------------- near ties
def swapped_at_near_ties(evaluator: Evaluator, tied: Mapping[str, int]) -> Callable[..., Any]:
    """Return `logits` that order the two best otherwise at one place of some drafts, as another batch shape might."""
    original = evaluator.logits
    starts = {
        tuple(prompt.tokens): question.key
        for question, prompt in zip(evaluator.questions, evaluator.prompts, strict=True)
    }

    def logits(batch: Any, members: Any) -> Any:
        out = original(batch, members)
        place = 0
        for inputs, labels in zip(batch.inputs["input_ids"].tolist(), batch.labels.tolist(), strict=True):
            supervised = [number for number, label in enumerate(labels) if label >= 0]
            key = starts.get(tuple(inputs[: supervised[0]]), "")
            if key in tied and tied[key] < len(supervised):
                row = out.values[0, place + tied[key]]
                first, second = row.topk(2).indices.tolist()
                row[second] = row[first] + 1e-9
            place += len(supervised)
        return out

    return logits


def test_a_near_tie_is_decided_by_decoding_its_own_batch(
    engine: Engine, adapted: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = engine.evaluator
    tied = {ask_ood(evaluator.data.of_kind("text")[0]).key: 1}  # pictures all have the same prompt
    original = evaluator.greedy
    plain: list[tuple[int, ...]] = []
    monkeypatch.setattr(evaluator, "greedy", lambda prompts, *given: plain.append(tuple(given[1])) or original(prompts, *given))  # fmt: skip  # noqa: E501
    recorded(evaluator, None)
    batches, plain[:] = list(plain), []
    monkeypatch.setattr(evaluator, "logits", swapped_at_near_ties(evaluator, tied))
    answers = evaluator.measure(None, [adapted])[1]
    assert answers == evaluator.measure(None, None)[1]
    decoded = plain[: -len(batches)]
    assert decoded and set(decoded) < set(batches), "the batch of the near tie, as without drafts, and no other"
    monkeypatch.setitem(near_ties.DRIFT_SHARES, torch.float64, 0.0)
    assert evaluator.measure(None, [adapted])[1] != answers, "without the rule the answer would be another"


def test_if_every_token_is_a_near_tie_all_is_decoded_as_without_drafts(
    engine: Engine, adapted: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(near_ties.DRIFT_SHARES, torch.float64, 1e9)
    monkeypatch.setattr(near_ties, "MOST_SHARE", 1e9)
    for drafts in ([adapted], [DRAFTS["wrong at last"](adapted)]):
        assert recorded(engine.evaluator, drafts) == adapted


# ---------------------------------------------------------------- honesty
def copying(self: Partial, draft: Sequence[int], rules: Any, *_: Any) -> Partial:
    return Partial(tuple(draft), done=True)


def test_an_evaluator_that_copies_its_drafts_is_found(
    engine: Engine, adapted: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Partial, "continued", copying)
    evaluator = engine.evaluator
    wrong = DRAFTS["wrong at last"](adapted)
    assert eval_integrity.measure(evaluator, None, 1, [wrong]).finding is not None
    finding = eval_integrity.measure(evaluator, None, 1, [{}]).finding
    assert finding is not None and finding.check == "answers_not_generated", "references are no answers either"


def test_an_evaluator_that_takes_drafts_without_reading_them_is_found(
    engine: Engine, adapted: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even drafts that are right: the model has not said so."""
    from trainables.evaluation.answering import Answering

    def unread(self: Answering, asked: Any, members: Any, found: Any) -> dict[int, dict[str, list[int]]]:
        return {0: {key: list(adapted[key]) for key in asked.keys}}

    monkeypatch.setattr(Answering, "answers", unread)
    finding = eval_integrity.measure(engine.evaluator, None, 1, [adapted]).finding
    assert finding is not None and finding.check == "answers_not_generated"


def test_logits_that_are_not_the_models_are_found(
    engine: Engine, adapted: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits that say what the draft says, put between the model and the evaluator."""
    evaluator = engine.evaluator
    original = evaluator.logits

    def agreeing(batch: Any, members: Any) -> Any:
        out = original(batch, members)
        out.values[0, torch.arange(len(out.targets)), out.targets] = 1e6
        return out

    monkeypatch.setattr(evaluator, "logits", agreeing)
    finding = eval_integrity.measure(evaluator, None, 1, [DRAFTS["wrong at last"](adapted)]).finding
    assert finding is not None and finding.check == "answers_not_generated"


def test_a_second_decoding_that_no_answer_is_taken_from_is_found(
    engine: Engine, adapted: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = engine.evaluator
    original = evaluator.greedy
    monkeypatch.setattr(evaluator, "greedy", lambda *given: (original(*given), original(*given))[0])
    assert eval_integrity.measure(evaluator, None, 1, ()).finding is not None


# ---------------------------------------------------------------- cohorts
@pytest.fixture(scope="module")
def alone(sources: Sources, kept: dict[str, Any]) -> list[Answers]:
    """What each member answers alone on the base, by `generate`."""
    with packed.all_double():
        engine, found = packed.double_engine(sources), []
        for number in range(len(DEPTHS)):
            adapter = packed.grown(engine.base, spec_of(sources, number), LOUD)
            engine.base.model.eval()
            found.append(generated(engine.evaluator))
            adapter.remove()
        assert len({tuple(one.values()) for one in found}) == len(DEPTHS)
        return found


@pytest.mark.parametrize("kind", ["own", "of one member", "wrong at last", "none", "own but one"])
@pytest.mark.parametrize("share", [True, False])
def test_members_answer_what_they_answer_alone_whatever_is_drafted(
    kind: str, share: bool, engine: Engine, sources: Sources, alone: list[Answers]
) -> None:
    baseline = packed.short_baseline(packed.double_engine, sources)
    drafts = {
        "own": {number: [one] for number, one in enumerate(alone)},
        "of one member": {number: [alone[0]] for number in range(3)},
        "wrong at last": {number: [DRAFTS["wrong at last"](one)] for number, one in enumerate(alone)},
        "none": {},
        "own but one": {0: [alone[0]], 1: [alone[1]], 2: [alone[1], alone[0]]},
    }[kind]
    adapters = packed.lifted(engine.base, [spec_of(sources, number) for number in range(3)], LOUD)
    shared = SharedForward(engine.base, adapters, share)
    try:
        measured = CohortEvaluator(engine.evaluator, shared).measure(dict.fromkeys(range(3), baseline), 1, drafts)
    finally:
        shared.remove()
    assert [one.finding for one in measured.values()] == [None] * 3
    assert [dict(measured[number].tokens) for number in range(3)] == alone


def test_a_member_that_copies_its_drafts_is_found_alone(
    engine: Engine, sources: Sources, alone: list[Answers], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Partial.continued
    wrong = DRAFTS["wrong at last"](alone[1])

    def copying_some(self: Partial, draft: Any, *given: Any) -> Partial:
        if tuple(draft) in set(wrong.values()) and tuple(draft) not in set(alone[0].values()):
            return Partial(tuple(draft), done=True)
        return original(self, draft, *given)

    monkeypatch.setattr(Partial, "continued", copying_some)
    baseline = packed.short_baseline(packed.double_engine, sources)
    adapters = packed.lifted(engine.base, [spec_of(sources, number) for number in range(3)], LOUD)
    shared = SharedForward(engine.base, adapters)
    drafts = {0: [alone[0]], 1: [wrong], 2: [alone[2]]}
    try:
        measured = CohortEvaluator(engine.evaluator, shared).measure(dict.fromkeys(range(3), baseline), 1, drafts)
    finally:
        shared.remove()
    finding = measured[1].finding
    assert finding is not None and finding.check == "answers_not_generated"
