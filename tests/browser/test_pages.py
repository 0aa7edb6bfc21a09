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
from analysis.conclusion import conclude
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

# what a screen reader needs, as a list of what is missing
LACKING = """(() => { const found = [], all = name => Array.from(document.querySelectorAll(name));
    if (!document.documentElement.lang) found.push('lang');
    if (!document.querySelector('meta[name=viewport]')) found.push('viewport');
    if (all('h1').length !== 1 || !document.querySelector('main')) found.push('one h1 and main');
    all('h1, h2, h3, h4').map(one => +one.tagName[1]).reduce((before, level) => {
        if (level > before + 1) found.push('heading after h' + before); return level }, 0);
    const told = one => (one.getAttribute('aria-label') || '').includes('able');
    all('svg').filter(one => !told(one)).forEach(() => found.push('svg'));
    all('img:not([alt])').forEach(() => found.push('img'));
    all('th:not([scope])').forEach(() => found.push('th'));
    const ids = all('[id]').map(one => one.id);
    ids.filter((id, at) => ids.indexOf(id) !== at).forEach(id => found.push('id ' + id));
    all('[aria-labelledby]').filter(one => !document.getElementById(one.getAttribute('aria-labelledby')))
        .forEach(() => found.push('label'));
    all('figure').filter(one => !one.closest('main').querySelector('table')).forEach(() => found.push('table'));
    return found })()"""
TEXT_CONTRAST = """(() => { const channels = text => text.match(/[\\d.]+/g).slice(0, 3).map(one => +one / 255)
        .map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    const light = text => { const [r, g, b] = channels(text); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
    const paper = light(getComputedStyle(document.body).backgroundColor);
    const faint = [];
    document.querySelectorAll('body :not(script)').forEach(one => {
        if (!Array.from(one.childNodes).some(node => node.nodeType === 3 && node.data.trim())) return;
        if (one.closest('pre') || (one.closest('svg') && one.tagName !== 'text') || one.tagName === 'title') return;
        const style = getComputedStyle(one), ink = light(one.closest('svg') ? style.fill : style.color);
        const [low, high] = [ink, paper].sort((a, b) => a - b);
        if ((high + 0.05) / (low + 0.05) < 4.5) faint.push(one.tagName + ': ' + one.textContent.slice(0, 20)) });
    return faint })()"""
FOCUS = "getComputedStyle(document.activeElement).outlineStyle + ' ' + document.activeElement.tagName"

Visit = Callable[[Tab], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write both pages of a made-up study."""
    directory = tmp_path_factory.mktemp("pages")
    study, measured = made_up_study(directory)
    objectives = frontier_objectives("irrelevant_pass", "exact_match", ())
    found = conclude(study, measured, objectives)
    info, content = found.info, content_of(found, ["analysis ship"], date(2026, 11, 28))
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
def test_a_page_says_what_its_pictures_show_and_every_text_stands_out(
    pages: dict[str, Path], visited: Callable[[Visit], Tab], name: str
) -> None:
    found, focused = {}, []

    async def steps(tab: Tab) -> None:
        for dark in (False, True):
            await tab.open(pages[name], 1280, dark)
            found[dark] = [await tab.value(LACKING), await tab.value(TEXT_CONTRAST)]
        for _ in range(12):
            await tab.press_tab()
            focused.append(await tab.value(FOCUS))

    visited(steps)
    assert found == {False: [[], []], True: [[], []]}
    assert [one for one in focused if not one.startswith("solid") and "BODY" not in one] == [], "focus must be seen"
    assert pages[name].stat().st_size < 2 * 10**6


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
        found.extend([await tab.value(one) for one in (OVERFLOW, SPILLED, UNREACHABLE, LACKING, TEXT_CONTRAST)])

    tab = visited(steps)
    assert found[0] > 0 and "DIV" in found[1] and found[2] == 1
    assert {"lang", "viewport", "img", "one h1 and main"} <= set(found[3])
    assert found[4] == ["DIV: wide"], "white on white"
    assert any("planted" in one for one in tab.errors)
    assert "https://example.org/x.png" in tab.requests
