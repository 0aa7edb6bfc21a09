"""Tests the benchmark of mixes: which it measures, when a goal is missed, and what it prints; no figure is asserted."""

from __future__ import annotations

from pathlib import Path

import pytest
from ended import ended

from benchmarks import mixes
from benchmarks.mix_measure import depths_of, fastest, named_mixes, random_mixes
from benchmarks.mix_page import Figure, page
from trainables.io.files import read_json


def figure(alone: float, model: float, named: bool = False) -> Figure:
    return Figure("mini", "L2 L4", named, "L2+L4", alone, 1.0, model)


def test_a_figure_misses_what_it_is_below() -> None:
    assert figure(0.97, 1.0).fails == []
    assert figure(0.969, 1.0).fails == ["slower than alone"]
    assert figure(1.7, 2.0).fails == [] and figure(1.699, 2.0).fails == ["below 85% of the model"]
    assert figure(1.2, 1.3, named=True).fails == [] and figure(1.19, 1.3, named=True).fails == ["below 1.2"]
    assert figure(1.19, 1.3).fails == [] and "MISSES" not in figure(1.19, 1.3).line


def test_a_step_counts_in_its_fastest_run() -> None:
    assert fastest([[1.0, 4.0], [2.0, 2.0]]) == 1.5


def test_mixes_are_the_named_ones_and_random_ones_by_their_seed() -> None:
    assert depths_of("mini", None) == (8, 12)
    assert [one.name for one in named_mixes(30, 0)] == ["L2 L4 L30"]
    assert [one.name for one in named_mixes(36, 24)] == ["L2 L4 L36", "V2 V6 L2V6"]
    drawn = random_mixes(36, 24, 20)
    assert drawn == random_mixes(36, 24, 20) and len(set(drawn)) == 20
    arms = [arm for one in drawn for arm in one.arms]
    assert all(2 <= len(one.arms) <= 6 for one in drawn)
    assert all(0 <= language <= 36 and 0 <= vision <= 24 and language + vision for language, vision, _ in arms)
    assert any(vision for _, vision, _ in arms) and not any(
        vision for one in random_mixes(30, 0, 20) for _, vision, _ in one.arms
    )


def test_the_page_has_a_row_for_each_mix_and_counts_the_goals() -> None:
    machine = {"date": "2026-01-01", "cpu": "2 cores", "threads": 2, "versions": "torch"}
    written = page({"mini": {"machine": machine, "clock": "cpu", "mixes": [
        vars(figure(1.5, 1.5)), vars(figure(0.9, 1.5)),
    ]}})  # fmt: skip
    assert "1 of 2 mixes meet all goals; 1 are not slower than alone." in written
    assert (
        "| L2 L4 | L2+L4 | 0.900 | 1.000 | 0.90 | 1.50 | 60% | slower than alone, below 85% of the model |" in written
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--shapes", "huge"), "must be mini, deep or base"), (("--shapes", "base"), "needs the directory")],
)
def test_what_cannot_be_measured_ends_with_2_and_a_hint(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    done = ended(mixes.main, *arguments, "--out", tmp_path / "page.md")
    assert done.exit_code == 2 and message in done.output and "hint:" in done.output


@pytest.mark.slow
def test_a_text_base_is_measured(tmp_path: Path) -> None:
    from tiny_families import write_base

    base, out = write_base("llama", tmp_path / "base"), tmp_path / "page.md"
    done = ended(mixes.main, "--shapes", "base", "--base", base, "--clock", "cpu", "--repeats", "1", "--random", "1",
                 "--threads", "1", "--out", out)  # fmt: skip
    assert done.exit_code == 0, done.output
    found = [Figure(**one) for one in read_json(out.with_suffix(".json"))["base"]["mixes"]]
    assert [one.named for one in found] == [True, False] and all(one.cohort_seconds > 0 for one in found)
    assert found[0].mix == "L2 L4 L4" and out.read_text(encoding="utf-8").count("\n| L") == 2
