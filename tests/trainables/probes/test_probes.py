from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_trials import Sources

from trainables.data.ood import OodRow, read_ood
from trainables.data.rows import Message, Row, read_rows
from trainables.data.text import is_degenerate, is_near_empty, normalized, same_answer, words
from trainables.errors import UserError
from trainables.metrics import METRICS, generality, metric, reported
from trainables.probes import (
    PROBES,
    blindness,
    captions,
    crops,
    hallucination,
    irrelevant,
    probes_for,
    retention,
    task_fit,
)
from trainables.probes.metric import Proportion, RowResults, hits, scores
from trainables.probes.probe import Baseline, Evidence, Losses, Probe, ProbeData
from trainables.probes.question import ask_ood, ask_validation

RANGES = {"nats/token": (-100.0, 100.0), "fraction": (0.0, 1.0)}
CHINESE = "白色圆形在紫色三角形左边。"


def row(answer: str, row_id: str = "v", images: tuple[Path, ...] = (Path("v.png"),)) -> Row:
    return Row(row_id, (Message("user", "<image>State?"), Message("assistant", answer)), images)


def ood(kind: str, expect: str | None = None, row_id: str = "o", forbid: tuple[str, ...] = ()) -> OodRow:
    images = () if kind in ("text", "declines") else (Path("o.png"),)
    return OodRow(row_id, kind, (Message("user", "What?"),), images, expect, forbid)


DATA = ProbeData(
    validation=(row("lamp red", "v1"), row("lamp blue", "v2")),
    train_slice=(row("lamp green", "t1"),),
    ood=(
        ood("irrelevant", "无关图片", "i1", ("lamp",)),
        ood("irrelevant", "无关图片", "i2"),
        ood("caption", CHINESE, "c1"),
        ood("text", "soft.", "x1"),
        ood("text", "blue", "x2"),
        ood("declines", "I cannot know that.", "d1"),
    ),
    task_vocabulary=frozenset({"lamp", "screw"}),
)


def keys(data: ProbeData) -> dict[str, str]:
    """Answer every question as a perfect model would."""
    good = {question.key: "" for probe in PROBES for question in probe.questions(data)}
    good |= {ask_ood(one).key: one.expect or "" for one in data.ood}
    good |= {ask_validation(one).key: one.answer for one in data.validation}
    good |= {question.key: one.answer for one in data.validation for question in crops._cropped(one)}
    return good


def losses(rows: Sequence[object], nats: float = 6.0, tokens: int = 4, correct: int = 3) -> Losses:
    return Losses((nats,) * len(rows), (tokens,) * len(rows), (correct,) * len(rows))


def evidence(data: ProbeData, answers: Mapping[str, str]) -> Evidence:
    return Evidence(answers, losses(data.validation), losses(data.train_slice, 2.0, 4, 4))


def score(probe: Probe, answers: Mapping[str, str], baseline: Baseline | None = None) -> dict:
    return dict(
        scores(probe.score(DATA, replace(evidence(DATA, keys(DATA) | dict(answers)), baseline=baseline))).metrics
    )


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_every_probe_keeps_the_contract(probe: Probe, sources: Sources) -> None:
    data = ProbeData(
        tuple(read_rows(sources.validation.path)),
        tuple(read_rows(sources.train.path)),
        (*read_ood(sources.ood.path), ood("declines", "I cannot know that.", "d1")),
        frozenset({"lamp"}),
    )
    questions = probe.questions(data)
    assert questions
    by_key = {}
    for question in questions:
        assert by_key.setdefault(question.key, question) == question  # one key, one question
    for answers in (keys(data), dict.fromkeys(keys(data), ""), dict.fromkeys(keys(data), "lamp red red red")):
        found = scores(probe.score(data, evidence(data, answers)))
        assert set(found.metrics) == {one.name for one in probe.metrics}
        for one in probe.metrics:
            low, high = RANGES[one.unit]
            assert low <= found.metrics[one.name] <= high
            assert one.direction in ("higher", "lower")
            assert one.counts
    for key in (question.key for question in questions):
        partial = {other: answer for other, answer in keys(data).items() if other != key}
        with pytest.raises(KeyError):  # an answer that is not there is not an empty answer
            probe.score(data, evidence(data, partial))


def test_a_probe_without_rows_is_skipped_and_its_metrics_are_absent() -> None:
    text = replace(DATA, validation=(row("lamp", images=()),), ood=DATA.of_kind("text"))
    of_pictures = {irrelevant.PROBE, hallucination.PROBE, blindness.PROBE, captions.PROBE, crops.PROBE}
    silent = {metric.name for probe in of_pictures for metric in probe.metrics}
    assert {task_fit.PROBE, retention.PROBE} <= {*probes_for(text)} and of_pictures.isdisjoint(probes_for(text))
    assert of_pictures <= {*probes_for(DATA)} and silent <= reported(DATA)
    assert silent.isdisjoint(reported(text)) and {"eval_loss", "train_seconds"} <= reported(text) <= set(METRICS)
    assert (generality(reported(DATA)), generality(reported(text))) == ("irrelevant_pass", "text_retention")
    for probe in of_pictures:
        with pytest.raises(ValueError, match="at least one row"):  # asked all the same, it does not look perfect
            probe.score(text, evidence(text, {}))


def test_no_two_probes_and_no_two_metrics_share_a_name() -> None:
    assert len({probe.name for probe in PROBES}) == len(PROBES)
    names = [one.name for probe in PROBES for one in probe.metrics]
    assert len(set(names)) == len(names)
    assert set(names) < set(METRICS)


def test_an_unknown_metric_names_the_nearest() -> None:
    assert metric("eval_loss").direction == "lower"
    with pytest.raises(UserError, match="got `eval_los`") as caught:
        metric("eval_los")
    assert caught.value.hint == "did you mean `eval_loss`?"


def test_questions_of_several_probes_are_the_same_question() -> None:
    asked: dict[str, object] = {}
    for question in (question for probe in PROBES for question in probe.questions(DATA)):
        assert asked.setdefault(question.key, question) == question


def test_a_probe_with_nothing_to_count_raises() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        hits({})
    assert hits({"a": True, "b": False, "c": False, "d": False}).proportion == Proportion(1, 4)
    assert Proportion(1, 4).rate == 0.25


def test_a_share_of_answers_keeps_what_it_was_counted_from_and_a_mean_does_not() -> None:
    values = {name: value for probe in PROBES for name, value in score_all(probe).items()}
    counted = {name for name, value in values.items() if isinstance(value, RowResults) and not value.weights}
    assert counted == {
        "exact_match", "irrelevant_pass", "hallucination", "blindness", "caption_sanity", "crop_consistency",
        "text_retention", "declined", "command_only_rate", "dangerous_rate",
    }  # fmt: skip
    found = scores(values)
    assert found.counts.keys() == counted and found.metrics.keys() == values.keys()
    assert all(found.metrics[name] == one.successes / one.rows for name, one in found.counts.items())
    assert found.counts["text_retention"] == Proportion(2, 2)


def score_all(probe: Probe) -> Mapping[str, float | RowResults]:
    return probe.score(DATA, evidence(DATA, keys(DATA)))


# ---------------------------------------------------------------- each probe against planted answers
def test_task_fit_counts_tokens_and_exact_answers() -> None:
    scores = score(task_fit.PROBE, {"validation/v2": "Lamp BLUE."})
    assert scores == {
        "eval_loss": 1.5,
        "token_accuracy": 0.75,
        "exact_match": 1.0,
        "train_loss": 0.5,
        "generalization_gap": 1.0,
    }
    assert score(task_fit.PROBE, {"validation/v2": "lamp red"})["exact_match"] == 0.5


@pytest.mark.parametrize(
    ("answer", "passes"),
    [("无关图片", 1.0), ("无关图片。", 1.0), (" 无关图片 ", 1.0), ("不是无关图片", 0.5), ("", 0.5), ("lamp red", 0.5)],
)
def test_irrelevant_pictures_need_the_agreed_refusal(answer: str, passes: float) -> None:
    assert score(irrelevant.PROBE, {"ood/i1": answer}) == {"irrelevant_pass": passes}


@pytest.mark.parametrize(
    ("row_id", "answer", "rate"),
    [
        ("i1", "无关图片", 0.0),
        ("i1", "A LAMP shines", 0.5),  # forbidden for this row
        ("i1", "lamps", 0.5),  # a forbidden term counts inside a word
        ("i2", "lamp red", 0.5),  # the task's vocabulary
        ("i2", "lamps", 0.0),  # another word than the task's
        ("i2", "no Screw", 0.5),
        ("i2", "", 0.0),
    ],
)
def test_hallucination_is_a_forbidden_term_or_a_word_of_the_task(row_id: str, answer: str, rate: float) -> None:
    assert score(hallucination.PROBE, {f"ood/{row_id}": answer}) == {"hallucination": rate}


def test_the_task_vocabulary_is_what_a_fifth_of_the_answers_say_and_no_general_answer() -> None:
    train = [row("lamp red; it is on", str(n)) for n in range(4)] + [row("screw missing", "s")]
    train += [row("hello grey", str(n)) for n in range(9, 14)]
    train += [row("rare", "r")]
    assert hallucination.task_vocabulary(train, []) == {"lamp", "red", "hello", "grey"}
    general = [ood("text", "Hello there."), replace(ood("caption"), messages=(Message("user", "Is it Grey?"),))]
    assert hallucination.task_vocabulary(train, general) == {"lamp", "red", "grey"}


def test_a_chinese_task_has_a_vocabulary_too() -> None:
    train = [row("指示灯红色,螺丝缺失。", str(number)) for number in range(5)]
    general = [ood("irrelevant", expect="无关图片"), ood("caption", expect="红色圆形。")]
    vocabulary = hallucination.task_vocabulary(train, general)
    assert {"指示", "螺丝", "缺失"} <= vocabulary
    assert "红色" not in vocabulary
    assert hallucination.hallucinates("图中螺丝完好", general[0], vocabulary)
    assert not hallucination.hallucinates("无关图片", general[0], vocabulary)


def test_a_fifth_exactly_is_enough_for_the_task_vocabulary() -> None:
    train = [row("lamp", "1"), *(row(f"word{n}", str(n)) for n in range(2, 6))]
    assert "lamp" in hallucination.task_vocabulary(train, [])
    assert "lamp" not in hallucination.task_vocabulary([*train, row("more", "6")], [])


@pytest.mark.parametrize(
    ("answer", "blind"),
    [
        ("", True), (" 。!", True), ("a", True), ("图", True), ("图片", False), ("ok", False), ("无关图片", False),
        ("red red red red red", True), ("好的好的好的好的", True), ("哈哈哈", False), ("aaaaaaaaaaaa", True),
        ("lamp red; cables two; screw missing.", False), (CHINESE, False),
        ("It says " + "no " * 20, True), ("A long and varied answer about many things, then no no no no", False),
        ("12 34 56 78", False),
    ],
)  # fmt: skip
def test_blindness_is_nothing_or_next_to_nothing_or_repetition(answer: str, blind: bool) -> None:
    assert blindness.is_blind(answer) == blind


def test_blindness_counts_every_row_that_shows_a_picture_and_no_other() -> None:
    assert score(blindness.PROBE, {"ood/i1": "", "ood/x1": ""}) == {"blindness": pytest.approx(1 / 3)}


@given(block=st.text("abcde 图片好", min_size=1, max_size=8), times=st.integers(8, 20))
def test_a_block_repeated_eight_times_is_blind(block: str, times: int) -> None:
    assert blindness.is_blind((block * times).strip())


@pytest.mark.parametrize(
    ("caption", "sane"),
    [
        (CHINESE, True),
        ("白色圆形在紫色方形左边。", True),  # one word differs
        ("绿色柱子比蓝色柱子高很多。", False),  # another picture's caption
        ("A white circle left of a triangle.", False),  # another language
        ("", False),
        ("白", False),
        ("白色圆形白色圆形白色圆形白色圆形", False),
        ("白色圆形", False),  # under half as long
        (CHINESE + "白色圆形在红色三角形右边下面还有", False),  # over twice as long
    ],
)
def test_captions_are_sane_when_they_stay_near_the_baselines(caption: str, sane: bool) -> None:
    assert captions.is_sane(caption, CHINESE) == sane
    baseline = Baseline({}, {"c1": CHINESE})
    assert score(captions.PROBE, {"ood/c1": caption}, baseline) == {"caption_sanity": float(sane)}


def test_another_language_is_not_sane_whatever_its_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "MIN_CHRF", 0.0)
    assert captions.is_sane("红色方形在右边", CHINESE)
    assert not captions.is_sane("A red square", CHINESE)
    assert not captions.is_sane(CHINESE, "A red square")


@pytest.mark.parametrize("length", range(1, 30))
def test_the_length_of_a_caption_is_held_between_half_and_twice(length: int) -> None:
    reference = "abcdefghijkl"
    caption = (reference + "mnopqrstuvwxyzABCDEFG")[:length]
    assert captions.is_sane(caption, reference) <= (6 <= length <= 24)
    assert captions.is_sane(reference[:length], reference) or length < 8


def test_chrf_is_sacrebleus_and_its_limit_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from sacrebleu import sentence_chrf

    pairs = [
        ("白色圆形在紫色方形左边。", CHINESE),
        ("白色方形在红色方形右边。", CHINESE),
        ("a lamp is on", "a lamp was off"),
    ]
    for caption, reference in pairs:
        chrf = sentence_chrf(caption, [reference]).score / 100
        monkeypatch.setattr(captions, "MIN_CHRF", chrf)
        assert captions.is_sane(caption, reference)
        monkeypatch.setattr(captions, "MIN_CHRF", chrf + 1e-6)
        assert not captions.is_sane(caption, reference)


def test_the_baselines_own_captions_are_held_against_themselves() -> None:
    assert score(captions.PROBE, {"ood/c1": CHINESE}) == {"caption_sanity": 1.0}
    assert score(captions.PROBE, {"ood/c1": ""}) == {"caption_sanity": 0.0}
    assert score(captions.PROBE, {"ood/c1": CHINESE}, Baseline({}, {"c1": ""})) == {"caption_sanity": 0.0}
    with pytest.raises(KeyError):
        score(captions.PROBE, {}, Baseline({}, {"other": CHINESE}))


def test_crops_must_be_answered_like_the_whole_picture() -> None:
    assert score(crops.PROBE, {}) == {"crop_consistency": 1.0}
    assert score(crops.PROBE, {"crop/v1/0": "lamp green"}) == {"crop_consistency": pytest.approx(5 / 6)}
    assert score(crops.PROBE, {"validation/v1": "lamp green"}) == {"crop_consistency": pytest.approx(3 / 6)}


def test_crops_lie_within_pictures_of_any_size(tmp_path: Path) -> None:
    from trainables.data.images import read_picture

    path = tmp_path / "picture.png"
    for width, height in ((1, 1), (16, 9), (333, 77), (1023, 767)):
        Image.new("RGB", (width, height)).save(path)
        for jitter in crops.JITTERS:
            assert read_picture(path, jitter).size == (width, height)


def test_retention_needs_the_exact_answer() -> None:
    assert score(retention.PROBE, {"ood/x1": "Soft"}) == {"text_retention": 1.0}
    assert score(retention.PROBE, {"ood/x1": "lamp"}) == {"text_retention": 0.5}


# ---------------------------------------------------------------- text
def test_answers_are_the_same_up_to_case_width_space_and_closing_punctuation() -> None:
    assert same_answer(" Lamp\nRED。", "lamp red")
    assert same_answer("ＡＢ１", "ab1")
    assert not same_answer("lamp red", "lamp, red")
    assert not same_answer("", "lamp")


@given(st.text())
def test_normalizing_twice_changes_nothing_for_ascii(text: str) -> None:
    ascii_text = text.encode("ascii", "ignore").decode()
    assert normalized(normalized(ascii_text)) == normalized(ascii_text)


@given(st.text(max_size=80))
def test_text_facts_hold_for_any_text(text: str) -> None:
    assert isinstance(is_degenerate(text), bool)
    assert is_near_empty(text) == (sum(map(str.isalnum, text)) < 2)
    assert all(word == word.strip() and word for word in words(text))
