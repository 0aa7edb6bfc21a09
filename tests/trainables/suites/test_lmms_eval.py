"""Tests lmms-eval on kept adapters: `pope` and `mmvp` on synthetic rows, in the environment that a variable names."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from small_trials import Sources

from trainables.errors import UserError
from trainables.suites import lmms_eval
from trainables.suites.lmms_eval import (
    VARIABLE,
    SuiteRequest,
    answered,
    checked_python,
    measure,
    parse_tasks,
    read_results,
    requests_in,
)

QUESTIONS = [("Is there a dog?", "yes"), ("Is there a cat?", "no"), ("Is there a door?", "yes"), ("Is it dark?", "no")]


def rows(directory: Path, name: str, values: Sequence[Mapping[str, Any]]) -> Path:
    for number in range(len(values)):
        Image.new("RGB", (56, 56), (40 * number, 90, 120)).save(directory / f"{name}-{number}.png")
    lines = [json.dumps({**one, "image": f"{name}-{number}.png"}) for number, one in enumerate(values)]
    path = directory / f"{name}.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def tasks(tmp_path: Path) -> dict[str, Path]:
    pope = [
        {"question_id": str(number), "question": asked, "answer": right}
        for number, (asked, right) in enumerate(QUESTIONS)
    ]
    mmvp = [
        {"Index": number + 1, "Question": "Which way?", "Options": "(a) Left (b) Right", "Correct Answer": right}
        for number, right in enumerate(("(a)", "(b)", "(b)", "(a)"))
    ]
    return {"pope": rows(tmp_path, "pope", pope), "mmvp": rows(tmp_path, "mmvp", mmvp)}


def test_tasks_need_files_of_rows(tasks: dict[str, Path]) -> None:
    assert parse_tasks(",".join(f"{name}={path}" for name, path in tasks.items())) == tasks
    for bad in ("pope", "pope=gone.jsonl", ""):
        with pytest.raises(UserError, match="--tasks must name"):
            parse_tasks(bad)


def test_an_environment_without_lmms_eval_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UserError, match="environment of its own") as raised:
        checked_python(None)
    assert "pip install 'lmms_eval" in str(raised.value.hint)
    with pytest.raises(UserError, match="must be an interpreter"):
        checked_python(tmp_path / "python")
    if "lmms_eval" not in sys.modules:
        with pytest.raises(UserError, match="must be installed"):
            checked_python(Path(sys.executable))


def test_requests_and_results_are_read_as_the_worker_writes_them(tmp_path: Path) -> None:
    options = {"max_new_tokens": 16, "temperature": 0, "do_sample": False, "until": ["\n\n"]}
    path = tmp_path / "requests.jsonl"
    one = {"key": "pope/0", "text": "Is it?", "pictures": ["a.png"], "options": options}
    path.write_text(json.dumps(one) + "\n", encoding="utf-8")
    assert list(requests_in(path)) == [SuiteRequest("pope/0", "Is it?", (Path("a.png"),), 16, ("\n\n",))]
    path.write_text(json.dumps({**one, "options": {"do_sample": True, "temperature": 0.7}}) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="must be greedy, but task `pope` samples"):
        list(requests_in(path))
    metric = {"name": "lmms-eval/pope/pope_accuracy", "value": 0.5, "rows": 4, "higher": True, "error": 0.25}
    path.write_text(json.dumps({"metrics": [metric]}), encoding="utf-8")
    (found,) = read_results(path)
    assert (found.value, found.declared.direction, found.declared.unit, found.declared.error) == (
        0.5,
        "higher",
        "fraction",
        0.25,
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_pope_and_mmvp_score_what_the_adapter_answers(
    tasks: dict[str, Path], sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not os.environ.get(VARIABLE):
        pytest.skip(f"{VARIABLE} names no environment with lmms-eval")
    from trainables.data.encoding import Encoder
    from trainables.evaluation.held_out import AdaptedModel
    from trainables.model.base import load_base

    base = load_base(sources.base.path, "none", "auto", torch.device("cpu"))
    model, seen = AdaptedModel(base, Encoder(base), base.model, 8), []

    def half_right(model: Any, requests: Sequence[SuiteRequest]) -> dict[str, str]:
        seen.extend(requests)
        own = answered(model, requests)
        assert all(isinstance(text, str) for text in own.values()) and len(own) == 8
        # two of four of each task are right: rows 0 and 1
        given = {"pope": ["yes", "no", "no", "yes"], "mmvp": ["A", "B", "A", "B"]}
        return {f"{task}/{number}": one for task, texts in given.items() for number, one in enumerate(texts)}

    monkeypatch.setattr(lmms_eval, "answered", half_right)
    found = {one.name: one for one in measure(model, checked_python(None), tasks)}
    assert found["lmms-eval/pope/pope_accuracy"].value == 0.5
    assert found["lmms-eval/mmvp/mmvp_accuracy"].value == 0.5
    assert found["lmms-eval/mmvp/mmvp_pair_accuracy"].value == 0.5
    assert found["lmms-eval/pope/pope_accuracy"].declared.error == pytest.approx((0.25 / 3) ** 0.5)
    assert all(one.declared.rows == 4 and one.declared.direction == "higher" for one in found.values())
    assert seen[0].text.startswith(QUESTIONS[0][0]) and len(seen[0].pictures) == 1
