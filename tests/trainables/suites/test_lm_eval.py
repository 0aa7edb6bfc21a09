"""Tests tasks of lm-eval as a probe: own tasks and `ifeval` on own rows, against lm-eval's own model."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import packed
import pytest
import torch
from small_trials import Sources, opened

from trainables.cohort.evaluator import CohortEvaluator
from trainables.cohort.shared_forward import SharedForward
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.evaluation.live_probe import GivenAnswers, live_scores
from trainables.measurement import read_measurements
from trainables.mini.text import BASE_DIRECTORY
from trainables.model.base import load_base
from trainables.probes.metric import Scores
from trainables.recorded_baselines import baseline_in
from trainables.spec import Placement, ProbeRequest, Source
from trainables.suites.requested import live_probes

pytest.importorskip("lm_eval", reason="the extra `eval` is not installed")

from trainables.suites.generators import generators_kept
from trainables.suites.lm_eval_probe import LmEvalProbe, check_tasks, tokens_of_tasks

LOUD = 0.6

GENERATED = """
task: own_generated
dataset_path: json
dataset_kwargs: {data_files: {test: generated.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["."], max_gen_toks: 6, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
CHOSEN = """
task: own_chosen
dataset_path: json
dataset_kwargs: {data_files: {test: chosen.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: "{{right}}"
doc_to_choice: "{{choices}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
SURPRISING = """
task: own_surprising
dataset_path: json
dataset_kwargs: {data_files: {test: generated.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
process_results: !function scoring.process
metric_list:
  - {metric: nats, aggregation: mean, higher_is_better: false}
"""
SHORT_IFEVAL = """
include: {included}
task: ifeval
dataset_path: json
dataset_kwargs: {{data_files: {{train: ifeval.jsonl}}}}
generation_kwargs: {{until: [], do_sample: false, temperature: 0.0, max_gen_toks: 6}}
"""
SCORING = """
import random
import numpy as np
import torch

def process(doc, results):
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    return {"nats": -results[0]}
"""
QUESTIONS = [("What is two plus three?", "five"), ("What is one?", "one"), ("What is the state?", "dry")]
IFEVAL = [
    {"key": 1, "prompt": "Answer without a comma.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    {
        "key": 2,
        "prompt": "Answer in at least 90 words, all lowercase.",
        "instruction_id_list": ["length_constraints:number_words", "change_case:english_lowercase"],
        "kwargs": [{"relation": "at least", "num_words": 90}, {}],
    },
]


def request(path: Path) -> ProbeRequest:
    return ProbeRequest(suite="lm-eval", config=Source(path=path, sha256="0" * 64))


def ifeval(rows: Path) -> ProbeRequest:
    return ProbeRequest(suite="lm-eval", task="ifeval", rows=Source(path=rows, sha256="0" * 64))


def jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module", autouse=True)
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import datasets

    kept = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")
    yield
    datasets.config.HF_DATASETS_CACHE = kept


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tasks")
    for name, text in (("generated", GENERATED), ("chosen", CHOSEN), ("surprising", SURPRISING)):
        (directory / f"{name}.yaml").write_text(text, encoding="utf-8")
    (directory / "scoring.py").write_text(SCORING, encoding="utf-8")
    jsonl(directory / "generated.jsonl", [{"question": asked, "answer": right} for asked, right in QUESTIONS])
    choices = ["five", "dry", "one"]
    rows = [{"question": f"{asked} ", "right": choices.index(right), "choices": choices} for asked, right in QUESTIONS]
    jsonl(directory / "chosen.jsonl", rows)
    jsonl(directory / "ifeval.jsonl", IFEVAL)
    import lm_eval

    included = Path(lm_eval.__file__).parent / "tasks" / "ifeval" / "ifeval.yaml"
    (directory / "short.yaml").write_text(SHORT_IFEVAL.format(included=included), encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def engine(sources: Sources) -> Engine:
    with packed.all_double():
        return packed.double_engine(sources)


def own_tasks(directory: Path) -> list[ProbeRequest]:
    return [request(directory / f"{name}.yaml") for name in ("generated", "chosen", "surprising")]


def measured(engine: Engine, probe: LmEvalProbe) -> Scores:
    return live_scores([probe], engine.evaluator, {0: GivenAnswers({}, None)})[0]


def test_the_scores_are_those_of_lm_evals_own_model(engine: Engine, sources: Sources, directory: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    requests = [*own_tasks(directory), request(directory / "short.yaml")]
    with packed.all_double():
        probe = LmEvalProbe(engine.evaluator, requests)
        adapter = packed.grown(engine.base, sources.spec(placement=Placement(language=3)), LOUD)
        try:
            own = measured(engine, probe)
            theirs = HFLM(pretrained=engine.base.model, tokenizer=engine.base.tokenizer, batch_size=1, max_length=4096)
            theirs.apply_chat_template = lambda turns, add_generation_prompt=True: probe._render(  # type: ignore[method-assign]
                turns, add_generation_prompt
            )
            with generators_kept():
                expected = simple_evaluate(
                    theirs, tasks=probe.tasks, apply_chat_template=True, fewshot_as_multiturn=True, bootstrap_iters=10
                )
        finally:
            adapter.remove()
    assert expected
    for name, declared in own.declared.items():
        _, task, metric = name.split("/")
        found = expected["results"][task]
        assert own.metrics[name] == pytest.approx(found[f"{metric},none"], rel=1e-6), name
        error = found[f"{metric}_stderr,none"]
        assert declared.error == (None if error == "N/A" else pytest.approx(error, rel=1e-6)), name
        assert declared.rows == len(expected["samples"][task])
    assert {name.split("/")[1] for name in own.metrics} == {"own_generated", "own_chosen", "own_surprising", "ifeval"}
    nats = own.rows["lm-eval/own_surprising/nats"]
    assert nats.weights and len(set(nats.values.values())) == len(QUESTIONS), "equality would say nothing"


def test_a_cohort_scores_what_each_member_scores_alone(engine: Engine, sources: Sources, directory: Path) -> None:
    specs = [
        sources.spec(placement=Placement(language=language, vision=vision), seed=seed)
        for seed, (language, vision) in enumerate([(2, 0), (7, 2), (0, 3)])
    ]
    with packed.all_double():
        probe, alone = LmEvalProbe(engine.evaluator, own_tasks(directory)), []
        for spec in specs:
            adapter = packed.grown(engine.base, spec, LOUD)
            alone.append(measured(engine, probe))
            adapter.remove()
        shared = SharedForward(engine.base, packed.lifted(engine.base, specs, LOUD))
        try:
            joint = CohortEvaluator(engine.evaluator, shared)
            together = live_scores([probe], joint, dict.fromkeys(range(len(specs)), GivenAnswers({}, None)))
        finally:
            shared.remove()
    assert len({one.metrics["lm-eval/own_surprising/nats"] for one in alone}) > 1, "equality would say nothing"
    for number, own in enumerate(alone):
        assert together[number].metrics == pytest.approx(own.metrics, rel=1e-9, abs=1e-12)


def test_no_generator_and_no_mode_is_changed(engine: Engine, directory: Path) -> None:
    modes = []
    handle = engine.base.model.model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    try:
        with packed.all_double():
            measured(engine, LmEvalProbe(engine.evaluator, own_tasks(directory)))
    finally:
        handle.remove()
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all() and torch.equal(torch.get_rng_state(), before[2])
    assert modes and not any(modes)


def test_a_trial_records_what_a_suite_says_of_its_metrics(sources: Sources, directory: Path, tmp_path: Path) -> None:
    probes = (request(directory / "generated.yaml"),)
    spec, engine = sources.spec(probes=probes, placement=Placement(language=1), steps=2), packed.plain_engine(sources)
    engine.evaluator.live_probes = live_probes(probes, engine.evaluator)
    try:
        with opened(engine, spec.baseline(), tmp_path / "base", None) as trial:
            trial.advance(lambda: False)
            known = baseline_in(trial.record)
        with opened(engine, spec, tmp_path / "trial", known) as trial:
            trial.advance(lambda: False)
    finally:
        engine.evaluator.live_probes = ()
    (one,) = [one for one in read_measurements(tmp_path / "trial" / "metrics.jsonl", "") if one.kind == "eval"]
    declared = one.declared["lm-eval/own_generated/exact_match"]
    assert (declared.direction, declared.unit, declared.rows) == ("higher", "fraction", 3)
    assert declared.error is not None and one.counts["lm-eval/own_generated/exact_match"].rows == 3
    assert known.metrics.keys() >= {"lm-eval/own_generated/exact_match"}


def test_made_up_answers_tell_names_directions_and_rows(directory: Path) -> None:
    found = check_tasks([*own_tasks(directory), ifeval(directory / "ifeval.jsonl")]).declared
    assert found["lm-eval/own_surprising/nats"].direction == "lower"
    assert {name: one.rows for name, one in found.items() if "ifeval" in name} == {
        f"lm-eval/ifeval/{level}_level_{kind}_acc": 2 for level in ("prompt", "inst") for kind in ("strict", "loose")
    }


def test_a_plan_knows_what_the_requests_of_a_task_take(engine: Engine, directory: Path) -> None:
    asked = own_tasks(directory)[:2]
    found = tokens_of_tasks(asked, BASE_DIRECTORY)
    tokenizer = engine.encoder.tokenizer

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    assert list(found) == asked
    least = sum(count(question) + 6 for question, _ in QUESTIONS)  # max_gen_toks is 6
    assert least <= found[asked[0]] <= least + len(QUESTIONS), "lm-eval may put a delimiter after a question"
    choices = ("five", "dry", "one")
    least = sum(count(f"{question} {choice}") for question, _ in QUESTIONS for choice in choices)
    assert least <= found[asked[1]] <= least + 2 * len(QUESTIONS) * len(choices), "a row ends in a space here"


def refused(requests: Sequence[ProbeRequest]) -> str:
    with pytest.raises(UserError) as raised:
        check_tasks(requests)
    return f"{raised.value.message}\nhint: {raised.value.hint}"


def test_an_unknown_task_names_the_nearest() -> None:
    assert "did you mean `ifeval`?" in refused([ProbeRequest(suite="lm-eval", task="ifevl")])


def test_a_task_with_rows_on_a_hub_says_how_to_give_rows() -> None:
    message = refused([ProbeRequest(suite="lm-eval", task="ifeval")])
    assert "`google/IFEval` of a hub" in message and "--probes lm-eval:ifeval=ROWS.jsonl" in message


def test_a_group_of_tasks_is_refused() -> None:
    assert "is a group of tasks" in refused([ProbeRequest(suite="lm-eval", task="mmlu")])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("generated.jsonl -> gone.jsonl", "there is none"),
        ("higher_is_better: true -> higher_is_better: null", "higher_is_better"),
        ("do_sample: false -> do_sample: true", "must be greedy"),
        ("output_type: -> unsafe_code: true\noutput_type:", "unsafe_code"),
        ("{{question}} -> {{question", "lm-eval"),
        ("task: own_generated -> task: [a, b]", "name of one task"),
        ("metric_list: -> metric_list: [", "YAML"),
    ],
)
def test_a_bad_task_is_refused_before_anything_is_spent(directory: Path, changed: str, told: str) -> None:
    old, _, new = changed.partition(" -> ")
    path = directory / "bad.yaml"
    path.write_text(GENERATED.replace(old, new), encoding="utf-8")
    assert told in refused([request(path)])


def test_rows_that_need_data_of_nltk_are_refused(directory: Path) -> None:
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        rows = [{**IFEVAL[0], "instruction_id_list": ["change_case:capital_word_frequency"],
                 "kwargs": [{"capital_frequency": 2, "capital_relation": "at least"}]}]  # fmt: skip
        message = refused([ifeval(jsonl(directory / "capital.jsonl", rows))])
        assert "nltk.downloader" in message
    else:
        pytest.skip("nltk's data are here")


def test_a_request_longer_than_the_base_reads_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(GENERATED.replace("max_gen_toks: 6", "max_gen_toks: 600000"), encoding="utf-8")
    jsonl(tmp_path / "generated.jsonl", [{"question": "What is two?", "answer": "two"}])
    from trainables.data.encoding import Encoder
    from trainables.evaluation.evaluator import Evaluator
    from trainables.probes.probe import ProbeData
    from trainables.suites.answering import Generation, RequestAnswers

    base = load_base(BASE_DIRECTORY, "none", "auto", torch.device("cpu"))
    evaluator = Evaluator.__new__(Evaluator)
    evaluator.base, evaluator.encoder, evaluator.data = base, Encoder(base), ProbeData((), (), (), frozenset())
    with pytest.raises(UserError, match="must fit the base"):
        RequestAnswers(evaluator, [Generation("What is two?", (), 600_000)])
