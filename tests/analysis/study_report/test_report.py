"""Tests the report of a study: what it says first, what it shows of the pick, and what it says is not known."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from made_up_study import made_up_study

from analysis.conclusion import conclude
from analysis.objectives import frontier_objectives
from analysis.study_report.answer import answer
from analysis.study_report.content import LeftOut, StudyContent, content_of
from analysis.study_report.findings import answer_pairs, falls
from analysis.study_report.page import MAX_BYTES, as_html, as_markdown, write_report
from trainables.errors import UserError
from trainables.probes.metric import Proportion
from trainables.record import Measurement

OBJECTIVES = frontier_objectives("irrelevant_pass", "exact_match", ())


@pytest.fixture
def reported(tmp_path: Path) -> Callable[..., StudyContent]:
    """Return the content of the report of a made-up study; `lost` deletes its records first."""

    def report(lost: bool = False, unlogged: bool = False, level: float = 0.9) -> StudyContent:
        study, measured = made_up_study(tmp_path)
        if lost:
            shutil.rmtree(tmp_path / "runs")
        found = conclude(study, measured, OBJECTIVES, level)
        found = replace(found, measured=dict.fromkeys(found.measured, ())) if unlogged else found
        return content_of(found, ["footprint ship"], date(2026, 11, 28), ["--tracking-uri", "http://127.0.0.1:5000"])

    return report


def test_the_first_line_says_what_to_ship_and_the_next_how_sure(reported: Callable[..., StudyContent]) -> None:
    content = reported()
    assert content.answer[0] == "Undecided: with probability 0.33, more rows or seeds lead to another pick."
    assert content.answer[1].startswith("As of now, ship D3 @ 60: exact_match 0.583 [")
    assert any("a new seed meets the constraint" in one.casefold() for one in content.answer)
    assert content.picked is not None and content.picked.is_shipped


def test_plain_words_are_about_the_pick_where_another_candidate_places_its_arm(
    reported: Callable[..., StudyContent],
) -> None:
    content = reported(level=0.5)
    assert content.answer[1].startswith("As of now, ship D3 @ 90: exact_match 0.850 [")
    placed = next(cells for _, cells in content.placements if cells[0].startswith("D3"))
    assert "@ 60" in placed, "the frontier shows another candidate of the arm"
    fit = next(cells[1] for cells in content.candidates if cells[0] == "D3 @ 90")
    assert content.plain[1].startswith("So far the best choice is D3 L4·V6 @ 90, but")
    assert f"it reaches {100 * float(fit.split()[0]):.0f} of 100; the model alone " in content.plain[1]


def test_a_level_is_not_rounded_to_certainty(tmp_path: Path) -> None:
    choice = conclude(*made_up_study(tmp_path), OBJECTIVES).choice
    first = answer(replace(choice, level=0.998, picked=None, shipped=None))[0]
    assert first.endswith("with probability 0.998 or more on a new seed.")


def test_the_reasons_of_placements_are_whole(reported: Callable[..., StudyContent]) -> None:
    content = reported()
    reason = f"learned {'much ' * 40}at step 60"
    [first, *others] = content.placements
    changed = replace(content, placements=((first[0], (*first[1][:-1], reason)), *others),
                      left_out=(LeftOut("C1", "no gain", reason),))  # fmt: skip
    assert as_markdown(changed).count(f"| {reason} |") == 2


def test_the_band_of_the_frontier_is_a_table_too(reported: Callable[..., StudyContent]) -> None:
    content = reported()
    assert len(content.reached) == 9 and all(len(cells) == 4 for cells in content.reached)
    level, surely, half, at_most = content.reached[0]
    assert float(level) == pytest.approx(0.9, abs=0.01)
    assert 0.2 < float(surely) < float(half) < float(at_most) <= 1.0
    assert f"| {level} | {surely} | {half} | {at_most} |" in as_markdown(content)
    assert 'aria-labelledby="reached"' in as_html(content) or 'id="reached"' in as_html(content)


def test_every_section_has_its_evidence_and_a_table_behind_each_picture(reported: Callable[..., StudyContent]) -> None:
    content = reported()
    text = as_html(content)
    assert len(text) < MAX_BYTES and "<script" not in text and "http://" not in text.replace("http://www.w3.org", "")
    # the frontier is drawn twice, for a wide and for a narrow window
    assert text.count("<svg ") == 2 + len(content.guards) + len(content.training)
    assert [plot.metric for plot in content.guards] == ["irrelevant_pass"]
    assert [plot.metric for plot in content.training] == [
        "step_loss", "eval_loss", "adapter_norm_language", "adapter_norm_vision"
    ]  # fmt: skip
    assert text.count("<summary>Table of ") == len(content.guards) + len(content.training)
    assert content.guards[0].limit == 0.8
    assert dict((row[0], row[1:]) for row in content.guards[0].table)["D3"] == ("0.992", "0.967", "0.883")


def test_the_markdown_says_the_same(reported: Callable[..., StudyContent]) -> None:
    content = reported()
    text = as_markdown(content)
    assert all(sentence.replace("<", "&lt;") in text for sentence in content.answer)
    assert "crop_consistency" in text and "footprint trial" in text
    assert all(f"| {one.arm} |" in text for one in content.costs)


def test_without_records_it_says_what_is_not_known(reported: Callable[..., StudyContent]) -> None:
    content = reported(lost=True)
    assert content.picked is None and content.guards == () and content.commands == ()
    assert any("13 of 13 trials are not on this machine" in one for one in content.missing)
    assert "Not known: no record is on this machine." in as_html(content)


def test_measurements_that_are_not_in_mlflow_are_copied_to_the_store_that_was_read(
    reported: Callable[..., StudyContent],
) -> None:
    [said] = [one for one in reported(unlogged=True).missing if "holds no measurements" in one]
    assert said.endswith("--tracking-uri http://127.0.0.1:5000` copies them).")


def test_a_name_cannot_break_out_of_the_page(reported: Callable[..., StudyContent]) -> None:
    hostile = "</style><script>alert(1)</script>"
    content = reported()
    text = as_html(replace(content, experiment=hostile, answer=(hostile,), chart=replace(content.chart, title=hostile)))
    assert "<script" not in text
    assert text.count("</style>") == 1 + text.count("<svg "), "the page has a style, and each picture one"


def test_a_file_that_cannot_be_written_is_refused(reported: Callable[..., StudyContent], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--out must be a file that can be written"):
        write_report(reported(), tmp_path / "file" / "report.html", "html")


@pytest.mark.parametrize(
    ("metric", "before", "after", "is_found"),
    [
        ("crop_consistency", 0.80, 0.70, False),
        ("crop_consistency", 0.80, 0.69, True),
        ("hallucination", 0.00, 0.11, True),
        ("hallucination", 0.11, 0.00, False),
        ("eval_loss", 0.1, 0.9, False),
    ],
)
def test_a_probe_fell_when_it_is_more_than_ten_points_worse(
    metric: str, before: float, after: float, is_found: bool
) -> None:
    counts = {metric: Proportion(round(after * 100), 100)}
    found = falls(Measurement("eval", 0, {metric: before}), Measurement("eval", 1, {metric: after}, counts))
    assert [one.metric for one in found] == [metric] * is_found
    assert not is_found or "[" in found[0].after


def test_answers_that_differ_come_first_and_every_kind_is_shown() -> None:
    before = [{"row": str(n), "kind": kind, "prompt": "p", "answer": "a"} for n in range(20) for kind in ("x", "y")]
    after = [{**one, "answer": "b" if one["row"] == "7" else "a"} for one in before]
    pairs = answer_pairs(before, [*after, {"row": "new", "kind": "z", "prompt": "p", "answer": "a"}])
    assert [(one.kind, one.after) for one in pairs[:4]] == [("x", "b"), ("y", "b"), ("x", "a"), ("y", "a")]
    assert len(pairs) == 12
