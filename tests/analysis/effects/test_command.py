"""Tests `analysis effects` as a user runs it, on records that launches leave."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from measured_experiment import Planned, baseline, write_experiment

from analysis.cli import main
from analysis.effects.report import EffectsReport
from analysis.effects.tables import as_markdown

Run = Callable[..., tuple[int, str, str]]


def crossed(seeds: int = 2) -> list[Planned]:
    """A crossed study in which depth buys fit and costs pass, and the rate does nothing."""
    return [
        baseline(),
        *(
            Planned(f"L{depth}V{blocks}-{rate}-s{seed}", [0.2, 0.2 + 0.15 * depth], [1.0, 1.0 - 0.1 * depth],
                    depth, blocks, seed, f"L{depth}V{blocks}", rate)
            for depth in (1, 2, 4)
            for blocks in (0, 2)
            for rate in (1.6e-4, 2e-4)
            for seed in range(seeds)
        ),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    directory = tmp_path_factory.mktemp("effects")
    uri = write_experiment(directory, crossed(), "response")
    write_experiment(directory, crossed(1)[:4], "few", uri)
    return directory, uri


@pytest.fixture
def effects(written: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; returns (exit code, stdout, stderr)."""

    def run(*words: str, experiment: str = "response") -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["effects", *words, "--experiment", experiment, "--tracking-uri", written[1]])
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return run


def test_the_planted_effects_are_found(effects: Run) -> None:
    code, out, _ = effects("--format", "json")
    found = json.loads(out)
    assert (code, found["trials"], found["seeds"]) == (0, 24, 2)
    depth = {one["metric"]: one for one in found["effects"] if one["factor"] == "language"}
    assert depth["exact_match"]["effect"] == pytest.approx(0.15, abs=0.01)
    assert depth["irrelevant_pass"]["effect"] == pytest.approx(-0.1, abs=0.01)
    outcomes = {(one["hypothesis"], one["part"]): one["outcome"] for one in found["answers"]}
    assert outcomes["H1", "irrelevant_pass"] == "supported"
    assert outcomes["H3", "exact_match"] == "supported"
    assert outcomes["H4", "irrelevant_pass"] == "undecided"
    assert max(found["importances"]["exact_match"], key=found["importances"]["exact_match"].get) == "language"


def test_the_table_fits_eighty_columns(effects: Run) -> None:
    code, out, _ = effects()
    assert code == 0
    assert [line for line in out.splitlines() if len(line) > 80] == []
    where, *table = out.partition("irrelevant_pass at each placement\n")[2].splitlines()[:5]
    assert where.startswith("rank 16, rate 0.0002, "), "a mean is of one rate, which is said"
    rows = table[1:4]
    # 43, 38 and 29 of 48 rows
    assert [row.split() for row in rows] == [["1", "0.90", "0.90"], ["2", "0.79", "0.79"], ["4", "0.60", "0.60"]]
    assert "H1 more LoRA costs generality\n  irrelevant_pass: supported; from language 1 vision 0" in out


def test_markdown_has_the_effects_and_the_answers(effects: Run) -> None:
    _, out, _ = effects("--format", "markdown")
    assert "| metric | factor, per | effect | 95 % | p rows | importance |" in out
    assert "| H1 | irrelevant_pass | supported |" in out
    assert re.search(r"`exact_match` at each placement, rank 16, rate 0.0002, .*:\n\n\| language layers", out)
    assert "| 4 | 0.80 | 0.80 |" in out


def test_markdown_has_the_commands_of_the_continuations_whole() -> None:
    command = "python -m sweeps.continuation --only L1V1 --init-from 'my runs/best' --experiment continuation-L1V1-s0"
    report = EffectsReport("response", 4, 1, (), (), (), {}, (), commands=(command,))
    assert as_markdown(report).endswith(f"go on with:\n\n    {command}\n")


@pytest.mark.parametrize(
    ("words", "experiment", "expected"),
    [
        ((), "few", "effects need 4 trained trials"),
        (("--y", "blindness"), "response", "some of `response` lack `blindness`"),
        (("--y", "exact_mach"), "response", "did you mean `exact_match`?"),
        (("--margin", "-1"), "response", "--margin must be above 0"),
        (("--continuations", "response"), "response", "--continuations must hold two trials"),
        (("--continuations", "respons"), "response", "did you mean `response`?"),
        ((), "respnse", "did you mean `response`?"),
    ],
)
def test_bad_input_exits_2(effects: Run, words: tuple[str, ...], experiment: str, expected: str) -> None:
    code, out, err = effects(*words, experiment=experiment)
    assert (code, out) == (2, "")
    assert expected in err and "Traceback" not in err


def test_a_hint_to_copy_records_names_the_store_that_was_read(effects: Run, written: tuple[Path, str]) -> None:
    _, _, err = effects(experiment="few")
    assert f"--sync --experiment few --tracking-uri {written[1]}" in " ".join(err.split())
