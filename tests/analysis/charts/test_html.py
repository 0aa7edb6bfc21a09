"""Tests the HTML page of a frontier, parsed with an HTML parser."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.charts import html
from analysis.charts.chart import CandidatePath, Chart, Limit, chart_of
from analysis.charts.html import write_page
from analysis.charts.svg import chart_svg
from analysis.frontier import FrontierInfo, frontier_info
from analysis.report.conclusions import conclusion, unknowns
from analysis.report.plain_words import WORDS, plain_words
from analysis.report.tables import text_table


class Page(HTMLParser):
    """The texts of a page by the innermost element, without those of scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.row_classes: list[str | None] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("meta", "link"):
            return
        self.open.append(tag)
        if tag in ("td", "th"):
            self.texts.setdefault(tag, []).append("")
        if tag == "tr" and "tbody" in self.open:
            self.row_classes.append(dict(attrs).get("class"))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "elements must be closed in order"

    def handle_data(self, data: str) -> None:
        tag = self.open[-1] if self.open else ""
        if tag in ("td", "th"):
            self.texts[tag][-1] += data
        elif data.strip():
            self.texts.setdefault(tag, []).append(data.strip())


@pytest.fixture
def info(make_trial, make_baseline, make_experiment, objectives) -> FrontierInfo:
    seeds = [make_trial(f"C2-s{i}", 0.95, 0.9 + i / 100, parameters={"seed": i}) for i in range(3)]
    forced = make_trial("B1", 1.0, 0.3, overridden=("coverage",))
    return frontier_info(make_experiment(make_baseline(), *seeds, forced), objectives)


def test_the_page_holds_every_placement_the_conclusion_and_the_unknowns(info: FrontierInfo, tmp_path: Path) -> None:
    write_page(info, tmp_path / "pareto.html")
    page = Page(tmp_path / "pareto.html")
    header, rows = text_table(info)
    assert page.texts["th"] == header
    assert page.texts["td"] == [cell for row in rows for cell in row]
    assert page.row_classes == ["frontier", "frontier", "other"]
    title = "stage4: 2 of 3 placements on the frontier of exact_match, irrelevant_pass"
    assert page.texts["title"][:1] == page.texts["h1"] == [title]
    assert page.texts["h2"] == ["In plain words", "The picture", "All placements", "What is not known"]
    forced = "‡ started with --force although the pre-flight refused it: coverage in B1."
    assert page.texts["p"] == [" ".join(conclusion(info)), *plain_words(info), forced]
    assert page.texts["dt"] == list(WORDS)
    assert page.texts["li"] == unknowns(info)
    assert not page.open


def test_the_picture_holds_every_kind_its_labels_and_both_limits(crowded: Chart) -> None:
    limits = (Limit("guard", 0.8), Limit("constraint", 0.9))
    text = chart_svg(replace(crowded, limits=limits), 10.0, 6.2)
    for words in ("on the frontier", "baseline (no adapter)", "C2 L2·V4", "guard: irrelevant_pass 0.8",
                  "constraint: irrelevant_pass 0.9"):  # fmt: skip
        assert f">{words}<" in text
    assert text.count("<title>") == len(crowded.marks)
    assert "<g id=" not in text and "currentColor" in text


def test_the_way_of_an_arm_is_drawn_and_is_a_table(info: FrontierInfo, tmp_path: Path) -> None:
    path = CandidatePath("C2", (30, 60), ((0.99, 0.2), (0.95, 0.9)))
    write_page(info, tmp_path / "pareto.html", chart_of(info, (), [path]))
    page = Page(tmp_path / "pareto.html")
    assert page.texts["td"][-8:] == ["C2", "30", "0.200", "0.990", "C2", "60", "0.900", "0.950"]
    assert "an arm in training" in (tmp_path / "pareto.html").read_text()


HOSTILE = "C2</script><script>alert(1)</script>"


def test_a_name_cannot_break_out_of_the_page(make_trial, make_baseline, make_experiment, objectives, tmp_path):
    experiment = make_experiment(make_baseline(), make_trial(HOSTILE, arm=HOSTILE), name="<img src=x onerror=alert(2)>")
    write_page(frontier_info(experiment, objectives), tmp_path / "pareto.html")
    text, page = (tmp_path / "pareto.html").read_text(encoding="utf-8"), Page(tmp_path / "pareto.html")
    assert not re.search(r'<(script|img|iframe)[^>]*\ssrc=|<link (?!rel="icon" href="data:,")', text), (
        "the page needs no network"
    )
    assert "<script" not in text and "<img" not in text
    assert page.texts["h1"][0].startswith("<img src=x onerror=alert(2)>: "), "it is shown as it is written"
    assert f"{HOSTILE} L2·V4" in page.texts["td"]


def test_plain_words_say_what_was_gained_and_kept_out_of_a_hundred(info: FrontierInfo) -> None:
    asked, found = plain_words(info)
    assert "compares 2 ways" in asked
    assert found.startswith("The best choice is C2") and "91 of 100; the model alone " in found
    assert "Outside the task (irrelevant_pass, of which more is better) it reaches 95 of 100" in found


def test_a_page_that_would_be_too_large_keeps_the_frontier_and_says_what_is_left_out(
    make_trial, make_baseline, make_experiment, objectives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [make_trial(f"C{at}", 0.9 - at / 1000, 0.5 - at / 1000, parameters={"rank": at}) for at in range(40)]
    info = frontier_info(make_experiment(make_baseline(), *trials), objectives)
    write_page(info, tmp_path / "whole.html")
    size = (tmp_path / "whole.html").stat().st_size
    monkeypatch.setattr(html, "MAX_BYTES", size - 1)
    monkeypatch.setattr(html, "SHOWN", (None, 10))
    write_page(info, tmp_path / "pareto.html")
    page = Page(tmp_path / "pareto.html")
    assert (tmp_path / "pareto.html").stat().st_size < size
    assert len(page.row_classes) == 10 and page.row_classes[0] == "frontier"
    [said] = [one for one in page.texts["p"] if "left out" in one]
    assert said.startswith(f"{len(info.results) - 10} more ") and "pareto.csv" in said
