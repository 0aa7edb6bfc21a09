"""Tests `analysis seeds` as a user runs it, and that the study's own command line takes what it prints."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke
from measured_experiment import Planned, baseline, write_experiment

from analysis.cli import main
from analysis.mlflow_runs import TrialRun
from analysis.placements import PlacementRuns, SeedRun
from analysis.seeds import command as of_seeds
from analysis.seeds.advice import Advice, ArmChance
from analysis.seeds.printed_command import WITHOUT_SEEDS, more_seeds_command
from sweeps.cli.studies import line_of_study
from sweeps.execution.submission import studies
from sweeps.stage4 import STUDY
from trainables.errors import UserError
from trainables.typed import FORM, MODULES

LAUNCHED = "python -m sweeps.stage4 --lr 2e-4 --seeds=2 --storage 'my runs' --only A1,C2 --recommended --experiment x"
Run = Callable[..., tuple[int, str, str]]


def parsed_by_the_study(words: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the options that the study's command line reads from these words."""
    seen: list[Any] = []

    def job_of(*options: Any) -> Any:
        seen.extend(options)
        raise UserError("parsed")

    monkeypatch.setattr("sweeps.cli.study.job_of", job_of)
    assert words[:2] == ["footprint", "stage4"]
    assert invoke(STUDY, monkeypatch, *words[2:]) == 2
    return seen[1], seen[2]


def test_the_study_reads_the_printed_command(monkeypatch: pytest.MonkeyPatch) -> None:
    words = more_seeds_command(LAUNCHED, ("C2", "D1"), 5)
    own, shared = parsed_by_the_study(shlex.split(shlex.join(words)), monkeypatch)
    assert (own.only, own.seeds, own.rates, own.recommended) == ("C2,D1", 5, ["2e-4"], False)
    assert (shared.storage, shared.experiment) == (Path("my runs"), "x")


def test_a_launch_from_python_cannot_be_repeated() -> None:
    with pytest.raises(UserError, match="asked of a study with --seeds"):
        more_seeds_command("", ("C2",), 5)


@pytest.mark.parametrize("module", ["trial spec.json --space 'seeds=3'", "search", "curriculum", "rescale"])
def test_a_command_that_takes_no_arms_and_seeds_is_not_repeated(module: str) -> None:
    with pytest.raises(UserError, match="asked of a study with --seeds") as raised:
        more_seeds_command(f"python -m sweeps.{module}", ("C2",), 5)
    assert "--space" in (raised.value.hint or "")


@pytest.mark.parametrize("name", studies())
def test_every_study_takes_the_words_or_is_refused(name: str) -> None:
    takes = {"only", "seeds"} <= {one.name for one in line_of_study(name).parameters()}
    assert takes == (name not in WITHOUT_SEEDS)


@pytest.mark.parametrize("call", ["python -m sweeps.stage4", "python -m sweeps stage4", "footprint stage4"])
@pytest.mark.parametrize(("form", "start"), [("footprint", ["footprint", "stage4"]),
                                             (MODULES, ["python", "-m", "sweeps.stage4"])])  # fmt: skip
def test_however_the_launch_was_begun_the_command_is_printed_as_this_one_was(
    call: str, form: str, start: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FORM, form)
    words = more_seeds_command(f"{call} --seeds 2 --notify '***' --rank 8", ("C2",), 5)
    assert words == [*start, "--rank", "8", "--only", "C2", "--seeds", "5"]


def trials(seeds: int) -> list[Planned]:
    arms = {"A1": (0.55, 0.98, 2), "C2": (0.68, 0.92, 4)}
    return [
        baseline(),
        *(
            Planned(f"{arm}-s{seed}", [fit / 2, fit], [1.0, generality], depth, seed=seed, arm=arm)
            for arm, (fit, generality, depth) in arms.items()
            for seed in range(seeds)
        ),
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_experiment(tmp_path_factory.mktemp("advised"), trials(2))


@pytest.fixture
def seeds(written: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; returns (exit code, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["seeds", "--experiment", "stage4", "--tracking-uri", written, *words])
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return run


def test_the_pick_its_chances_and_the_limit_are_told(seeds: Run) -> None:
    code, out, _ = seeds("--format", "json")
    found = json.loads(out)
    assert code == 0
    assert found["picked"] is not None and 0.1 < found["changes"] <= 1
    assert found["rows"] == {"exact_match": 60, "irrelevant_pass": 48, "hallucination": 48}
    assert found["limit"] in ("rows", "both", "seeds")
    assert "C2" in {one["arm"] for one in found["arms"]}


def test_the_table_fits_eighty_columns(seeds: Run) -> None:
    code, out, _ = seeds()
    assert code == 0
    assert [line for line in out.splitlines() if len(line) > 80 and "python -m" not in line] == []


def test_the_trials_are_counted_of_every_placement_that_the_command_runs(make_trial: Callable[..., TrialRun]) -> None:
    """`--only C2` runs C2 on both bases, though only one of them deserves seeds."""
    run = SeedRun(make_trial("C2-s0"), "admissible", "", (1.0, 0.5))
    placements = [
        PlacementRuns(f"{arm} {base}".strip(), arm, {}, (run,), is_baseline=False)
        for arm, base in (("C2", "none"), ("C2", "nf4"), ("D1", ""))
    ]
    advice = Advice("C2 none @ 60", 0.4, 0.05, 0.4, "seeds", (ArmChance("C2 none", 0.4, 1),), 3)
    found = of_seeds._with_command(advice, {}, placements, "python -m sweeps.stage4 --quant none,nf4")
    assert found.command[-4:] == ("--only", "C2", "--seeds", "3")
    assert found.trials == 4


def test_the_loop_runs_what_it_prints_until_the_budget_ends(
    seeds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    launched: list[tuple[str, ...]] = []
    real = of_seeds._advised

    def advised(*options: Any) -> Any:
        words = ("python", "-m", "sweeps.stage4", "--only", "C2", "--seeds", str(4 + 2 * len(launched)))
        return replace(real(*options), command=words, trials=2)

    monkeypatch.setattr(of_seeds, "_advised", advised)
    monkeypatch.setattr(of_seeds, "run_printed", launched.append)
    code, _, err = seeds("--loop", "--max-trials", "5")
    assert code == 0
    assert [words[-1] for words in launched] == ["4", "6"]
    assert "the next launch has 2 trials, but --max-trials leaves 1" in err


def test_the_loop_ends_where_a_command_changes_nothing(seeds: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[tuple[str, ...]] = []
    real = of_seeds._advised
    monkeypatch.setattr(of_seeds, "_advised", lambda *options: replace(real(*options), command=("ask",), trials=0))
    monkeypatch.setattr(of_seeds, "run_printed", launched.append)
    assert seeds("--loop")[0] == 0
    assert launched == [("ask",)]


def test_the_loop_asks_the_finalists_again_after_new_seeds(seeds: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is the same, but the new seeds have not answered yet."""
    launched: list[tuple[str, ...]] = []
    real, planned = of_seeds._advised, iter([(("ask",), 0), (("train",), 2), (("ask",), 0), ((), 0)])

    def advised(*options: Any) -> Any:
        command, trials = next(planned)
        return replace(real(*options), command=command, trials=trials)

    monkeypatch.setattr(of_seeds, "_advised", advised)
    monkeypatch.setattr(of_seeds, "run_printed", launched.append)
    assert seeds("--loop", "--max-trials", "5")[0] == 0
    assert launched == [("ask",), ("train",), ("ask",)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--accepted", "0"), "--accepted must be above 0"),
        (("--margin", "2"), "--margin must be above 0"),
        (("--y", "exact_mach"), "did you mean `exact_match`?"),
        (("--max-trials", "0"), "max-trials"),
    ],
)
def test_bad_input_exits_2(seeds: Run, words: tuple[str, ...], expected: str) -> None:
    code, out, err = seeds(*words)
    assert (code, out) == (2, "")
    assert expected in err and "Traceback" not in err
