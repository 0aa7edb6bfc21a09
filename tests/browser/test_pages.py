"""Tests in a real browser that report and frontier can be read on a phone, in the dark, printed and by keyboard."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from devtools import Tab, browser_tab, installed_browser
from made_up_study import made_up_study

from analysis.charts.candidate_paths import study_chart
from analysis.charts.html import write_page
from analysis.contenders import pick_of
from analysis.frontier import frontier_info
from analysis.objectives import frontier_objectives
from analysis.study_report.content import content_of
from analysis.study_report.page import write_report

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

PAGES = ("report", "pareto")
SCREENSHOTS = os.environ.get("SCREENSHOTS")  # a directory in which they are kept, for people to look at
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SPILLED = """Array.from(document.querySelectorAll('body *')).filter(one => !one.closest('.wide-table, svg')
    && one.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(one => one.tagName)"""
CONTRAST = """(() => { const of = name => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number);
    const light = colour => colour.slice(0, 3).reduce((sum, one) => sum + one, 0) / 3;
    return [light(of('color')), light(of('backgroundColor'))] })()"""
UNREACHABLE = """Array.from(document.querySelectorAll('table')).filter(one => !one.closest('[tabindex="0"]')).length"""

Visit = Callable[[Tab], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write both pages of a made-up study."""
    directory = tmp_path_factory.mktemp("pages")
    study, measured = made_up_study(directory)
    objectives = frontier_objectives("irrelevant_pass", "exact_match", ())
    info = frontier_info(study, objectives)
    content = content_of(info, pick_of(study, measured, objectives), measured, date(2026, 11, 28))
    write_report(content, directory / "report.html", "html")
    write_page(info, directory / "pareto.html", study_chart(info, measured))
    return {name: directory / f"{name}.html" for name in PAGES}


@pytest.fixture
def visited(tmp_path: Path) -> Callable[[Visit], Tab]:
    """Run steps in a tab of a new browser."""
    program = installed_browser()
    if program is None:
        pytest.skip("no browser: no Chromium is installed (on Debian: apt install chromium)")

    def visit(steps: Visit) -> Tab:
        async def run() -> Tab:
            async with browser_tab(program, tmp_path / "profile") as tab:
                await steps(tab)
                return tab

        return asyncio.run(run())

    return visit


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_phone_and_desk_in_light_and_dark(
    pages: dict[str, Path], visited: Callable[[Visit], Tab], tmp_path: Path, name: str
) -> None:
    found = {}

    async def steps(tab: Tab) -> None:
        for width in (390, 1280):
            for dark in (False, True):
                await tab.open(pages[name], width, dark)
                found[width, dark] = [await tab.value(one) for one in (OVERFLOW, SPILLED, CONTRAST)]
                label = f"{name}-{width}{'-dark' if dark else ''}.png"
                await tab.screenshot(Path(SCREENSHOTS or tmp_path) / label)

    tab = visited(steps)
    for (_, dark), (overflow, spilled, (ink, paper)) in found.items():
        assert overflow == 0 and spilled == []
        assert (ink - paper > 150) if dark else (paper - ink > 150), "text must stand out from its paper"
    assert tab.errors == []
    assert set(tab.requests) - {"data:,"} == {pages[name].as_uri()}, "a page asks for nothing but itself"


@pytest.mark.parametrize("name", PAGES)
def test_every_table_is_reached_by_the_tabulator_key(
    pages: dict[str, Path], visited: Callable[[Visit], Tab], name: str
) -> None:
    reached = set()
    regions = 0

    async def steps(tab: Tab) -> None:
        nonlocal regions
        await tab.open(pages[name], 390)
        await tab.value("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert await tab.value(UNREACHABLE) == 0
        regions = await tab.value("document.querySelectorAll('.wide-table').length")
        for _ in range(80):
            await tab.press_tab()
            reached.add(await tab.value("document.activeElement.getAttribute('aria-labelledby')"))

    visited(steps)
    assert len(reached - {None}) == regions > 0


@pytest.mark.parametrize("name", PAGES)
def test_a_printed_page_holds_every_table(
    pages: dict[str, Path], visited: Callable[[Visit], Tab], tmp_path: Path, name: str
) -> None:
    paper = Path(SCREENSHOTS or tmp_path) / f"{name}.pdf"
    widest = []

    async def steps(tab: Tab) -> None:
        await tab.open(pages[name], 794)  # the width of A4 at 96 pixels an inch
        await tab.ask("Emulation.setEmulatedMedia", media="print")
        widest.append(await tab.value(
            "Math.max(...Array.from(document.querySelectorAll('table')).map(one => one.getBoundingClientRect().right))"
        ))  # fmt: skip
        await tab.printed(paper)

    visited(steps)
    assert paper.read_bytes().startswith(b"%PDF")
    assert widest[0] <= 794


def test_a_planted_fault_is_seen(visited: Callable[[Visit], Tab], tmp_path: Path) -> None:
    page = tmp_path / "faulty.html"
    page.write_text("<body style='color: #fff; background: #fff'><div style='width: 2000px'>wide</div><table></table>"
                    "<img src='https://example.org/x.png'><script>throw Error('planted')</script>")  # fmt: skip
    found = []

    async def steps(tab: Tab) -> None:
        await tab.open(page, 390)
        found.extend([await tab.value(one) for one in (OVERFLOW, SPILLED, UNREACHABLE)])

    tab = visited(steps)
    assert found[0] > 0 and "DIV" in found[1] and found[2] == 1
    assert any("planted" in one for one in tab.errors)
    assert "https://example.org/x.png" in tab.requests
