"""Tests `--probes`: what it accepts, and what it refuses before anything is spent."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from sweeps.planning.probe_requests import check_probes, parse_probes
from trainables.constraint import MetricConstraint, constraint_of
from trainables.errors import UserError
from trainables.metrics import METRICS, reported
from trainables.pareto import parse_objectives
from trainables.probes.probe import ProbeData
from trainables.source_check import SourceChanged, check_sources
from trainables.spec import ProbeRequest, Source, TrialSpec
from trainables.suites import lm_eval_tasks


@pytest.fixture
def own_task(tmp_path: Path) -> Path:
    path = tmp_path / "task.yaml"
    path.write_text("task: own\n", encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text("{}\n", encoding="utf-8")
    return path


def test_probes_are_read_with_their_files(own_task: Path) -> None:
    rows = own_task.with_name("rows.jsonl")
    found = parse_probes(f"shift lm-eval:{own_task},ifeval={rows} lm-eval:arc_easy")
    assert [one.suite for one in found] == ["shift", "lm-eval", "lm-eval", "lm-eval"]
    assert found[1].config is not None and found[1].config.path == own_task
    assert found[2].rows is not None and found[2].rows.path == rows and found[2].task == "ifeval"
    assert found[3] == ProbeRequest(suite="lm-eval", task="arc_easy")
    assert parse_probes("") == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("shft", "did you mean `shift`"),
        ("lm-eval", "--probes lm-eval:ifeval=ROWS.jsonl"),
        ("lm-eval:", "--probes lm-eval:ifeval=ROWS.jsonl"),
        ("lm-eval:a,,b", "both sides"),
        ("shift shift", "each probe once"),
        ("shift:now", "must name `shift`"),
        ("lm-eval:gone.yaml", "must be a file"),
        ("lm-eval:ifeval=gone.jsonl", "must be a file"),
        (
            "lmms-eval:pope,mmvp=rows.jsonl",
            "footprint lmms-eval --checkpoint-dir ADAPTER --python ENV/bin/python "
            "--tasks pope=pope.jsonl,mmvp=rows.jsonl",
        ),
        ("lmms-eval", "--tasks pope=pope.jsonl,mmvp=mmvp.jsonl"),
    ],
)
def test_other_texts_are_refused(text: str, told: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_probes(text)
    assert told in f"{raised.value.message} {raised.value.hint}"


def spec(tmp_path: Path, *probes: ProbeRequest) -> TrialSpec:
    source = Source(path=tmp_path, sha256="0" * 64)
    return TrialSpec(name="one", arm="one", base=source, train=source, validation=source, ood=source, probes=probes)


def test_a_suite_that_is_not_installed_is_refused_with_the_pip_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        lm_eval_tasks.importlib.util, "find_spec", lambda name, *more: None if name == "lm_eval" else find(name, *more)
    )
    with pytest.raises(UserError, match="not installed") as raised:
        check_probes([spec(tmp_path, ProbeRequest(suite="lm-eval", task="ifeval"))])
    assert 'pip install "lora-footprint[eval]"' in str(raised.value.hint)


def test_the_shift_needs_no_suite(tmp_path: Path) -> None:
    assert "shift" in check_probes([spec(tmp_path, ProbeRequest(suite="shift"))])
    assert check_probes([spec(tmp_path)]) == frozenset()
    assert "shift" in METRICS and "shift" not in reported(ProbeData((), (), (), frozenset()))


@pytest.mark.parametrize("changed", ["task.yaml", "rows.jsonl"])
def test_a_changed_file_of_a_task_is_noticed(own_task: Path, changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (request,) = parse_probes(f"lm-eval:{own_task}")
    one = spec(own_task.parent, request)
    others = {one.base, one.train}
    monkeypatch.setattr("trainables.source_check.family_of", lambda _: pytest.fail("no base is read here"))
    check_sources([one], others)
    own_task.with_name(changed).write_text("other\n", encoding="utf-8")
    with pytest.raises(SourceChanged, match="task of a suite must be unchanged"):
        check_sources([one], others)


def test_a_metric_of_a_suite_is_an_objective_with_its_direction() -> None:
    one, _ = parse_objectives(["lm-eval/own/acc:higher", "exact_match"])
    assert (one.name, one.direction) == ("lm-eval/own/acc", "higher")
    with pytest.raises(UserError, match="with its direction") as raised:
        parse_objectives(["lm-eval/own/acc", "exact_match"])
    assert "lm-eval/own/acc:higher" in str(raised.value.hint)


def test_a_metric_of_a_suite_can_be_the_constraint() -> None:
    limit = MetricConstraint("lm-eval/own/acc", "higher", 0.1)
    base = {"lm-eval/own/acc": 0.9}
    assert limit.admits(base, {"lm-eval/own/acc": 0.8}) and not limit.admits(base, {"lm-eval/own/acc": 0.79})
    assert limit.excess(base, {"lm-eval/own/acc": 0.79}) > 0 >= limit.excess(base, {"lm-eval/own/acc": 0.8})
    assert constraint_of(vars(limit)) == limit
