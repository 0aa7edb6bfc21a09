"""Tests `analysis compare` as a user runs it, on records that launches leave."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from measured_experiment import REFUSAL, REPORT, Planned, baseline, write_experiment

from analysis.cli import main
from analysis.compare.selection import Candidates, side_of
from trainables.errors import UserError

Run = Callable[..., tuple[int, str, str]]
ARMS = {"A1": (0.60, 1.0, 2), "C1": (0.80, 0.75, 4), "C2": (0.62, 1.0, 3)}


def trials() -> list[Planned]:
    return [
        baseline(),
        *(
            Planned(f"{arm}-s{seed}", [fit / 2, fit + seed / 60], [1.0, generality], depth, seed=seed, arm=arm)
            for arm, (fit, generality, depth) in ARMS.items()
            for seed in range(3)
        ),
        Planned("D1-s0", [0.3], [0.5], 1, steps=(30,), arm="D1", ended="pruned"),
        Planned("D1-s1", [0.3, 0.6], [0.5, 0.5], 1, seed=1, arm="D1"),
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    directory = tmp_path_factory.mktemp("compared")
    uri = write_experiment(directory, trials())
    others = [baseline(), *(replace(one, name=f"E1-s{one.seed}", arm="E1") for one in trials()[1:4])]
    write_experiment(directory, others, "again", uri)
    write_experiment(directory, others, "wider", uri, rows=64)
    return directory, uri


@pytest.fixture
def compare(written: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; returns (exit code, stdout, stderr)."""

    def run(*words: str, experiment: str = "stage4") -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["compare", *words, "--experiment", experiment, "--tracking-uri", written[1]])
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return run


def test_two_arms_are_compared_at_the_last_step_of_all_seeds(compare: Run) -> None:
    code, out, _ = compare("A1", "C1", "--format", "json")
    found = json.loads(out)
    assert (code, found["a"], found["b"]) == (0, "A1 @ 60", "C1 @ 60")
    by_name = {one["metric"]: one for one in found["metrics"]}
    assert next(iter(by_name)) == "exact_match"
    assert (by_name["exact_match"]["better"], by_name["irrelevant_pass"]["better"]) == ("B", "A")
    assert by_name["irrelevant_pass"]["difference"] == pytest.approx(0.25)
    assert (by_name["irrelevant_pass"]["rows"], by_name["irrelevant_pass"]["seeds_a"]) == (48, 3)
    assert by_name["irrelevant_pass"]["baseline"] == 1.0
    groups = {one["group"]: one for one in found["groups"] if one["metric"] == "irrelevant_pass"}
    assert [groups[name]["rows"] for name in ("chart", "door")] == [24, 24]
    assert sum(one["difference"] for one in groups.values()) / 2 == pytest.approx(0.25)
    assert found["conclusions"][0].startswith("exact_match: C1 @ 60 is better than A1 @ 60, by 0.2")


def test_the_table_fits_eighty_columns_and_shows_what_each_said(compare: Run) -> None:
    code, out, _ = compare("A1", "C1", "--answers", "20")
    assert code == 0
    assert [line for line in out.splitlines() if len(line) > 80 and "picture.png" not in line] == []
    shown = next(block for block in out.split("\n\n") if block.startswith("i4"))
    assert ", door), differs in irrelevant_pass, hallucination" in shown or ", chart), differs in" in shown
    assert "irrelevant_pass chart" in out
    assert "picture.png" in shown
    for name, said in (("expected", REFUSAL), ("baseline", REFUSAL), ("A", REFUSAL), ("B", REPORT)):
        assert f"  {name:<9}{said}" in shown


def test_equal_arms_are_undecided_and_told_what_would_decide(compare: Run) -> None:
    _, out, _ = compare("A1", "C2")
    assert "exact_match: undecided (60 rows); what would decide it:" in out
    _, out, _ = compare("A1", "C2", "--margin", "0.3", "--format", "json")
    assert json.loads(out)["metrics"][0]["verdict"] == "equivalent"


@pytest.mark.parametrize(("name", "step"), [("C1 @ 30", 30), ("C1-s1", 60), ("C1-s1 @ 30", 30), ("C1", 60)])
def test_an_arm_a_step_and_a_trial_can_be_named(compare: Run, name: str, step: int) -> None:
    code, out, _ = compare(name, "A1", "--format", "json")
    assert code == 0
    assert json.loads(out)["a"].endswith(f"@ {step}")


def test_markdown_is_tables(compare: Run) -> None:
    _, out, _ = compare("A1", "C1", "--format", "markdown")
    assert "| metric | base | A | B | A - B | 95 % | p | verdict |\n| --- |" in out
    assert "| row | pictures | expected | baseline | A | B |" in out


def test_seeds_that_a_guard_stopped_are_named(compare: Run) -> None:
    _, out, _ = compare("D1 @ 60", "A1", "--format", "json")
    assert any("D1 @ 60 is the mean of 1 of 2 seeds: 0 ended before this step" in one
               for one in json.loads(out)["conclusions"])  # fmt: skip


def test_two_experiments_on_the_same_rows_are_compared(compare: Run) -> None:
    # the digests of both data sets are equal, as those of equal files are
    code, out, _ = compare("A1", "E1", "--with-experiment", "again", "--format", "json")
    assert code == 0
    assert json.loads(out)["metrics"][0]["verdict"] == "equivalent"


def test_two_experiments_with_different_rows_are_refused(compare: Run) -> None:
    code, out, err = compare("A1", "E1", "--with-experiment", "wider")
    assert (code, out) == (2, "")
    assert "must have answered the same rows" in err and "--val and --ood" in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("A1", "A9"), "but got `A9`"),
        (("A1", "C1 @ 45"), "a step is named as `C2 @ 60`"),
        (("A1", "A1"), "must be two candidates, but both are A1 @ 60"),
        (("A1", "A1-s1"), "must share no trial"),
        (("A1", "C1", "--margin", "0"), "--margin must be above 0"),
        (("A1", "C1", "--margin", "nan"), "--margin must be above 0"),
        (("A1", "C1", "--y", "exact_mach"), "did you mean `exact_match`?"),
        (("A1", "C1", "--with-experiment", "stage5"), "did you mean `stage4`?"),
        (("A1",), "Missing argument"),
    ],
)
def test_bad_input_exits_2_with_a_hint(compare: Run, words: tuple[str, ...], expected: str) -> None:
    code, out, err = compare(*words)
    assert (code, out) == (2, "")
    assert expected in err and "hint:" in err and "Traceback" not in err


def test_without_the_records_the_answers_are_missing_and_the_numbers_are_not(
    compare: Run, written: tuple[Path, str]
) -> None:
    runs, away = written[0] / "runs", written[0] / "away"
    shutil.move(runs, away)
    try:
        code, out, _ = compare("A1", "C1")
    finally:
        shutil.move(away, runs)
    assert code == 0
    assert "C1 @ 60 is better than A1 @ 60" in out
    assert "Answers are not shown: the record of A1 @ 60 or its samples are not on this machine." in " ".join(
        out.split()
    )


def test_a_hint_to_copy_measurements_names_the_store_that_was_read() -> None:
    with pytest.raises(UserError, match="MLflow has none of `e`") as error:
        side_of("A1", Candidates("e", (), (), ("--tracking-uri", "http://127.0.0.1:5000")))
    assert (error.value.hint or "").endswith("--sync --experiment e --tracking-uri http://127.0.0.1:5000")
