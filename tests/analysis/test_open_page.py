"""A page is opened in the browser where a person asks for it, and never in a pipe."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest

from analysis.open_page import open_page


@pytest.mark.parametrize(("is_terminal", "opens"), [(True, True), (False, False)])
def test_a_page_is_opened_on_a_terminal_alone(
    is_terminal: bool, opens: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    open_page(tmp_path / "a page.html")
    assert opened == ([(tmp_path / "a page.html").as_uri()] if opens else [])


def test_where_no_browser_opens_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    open_page(tmp_path / "report.html")
    assert "no browser opens here" in capsys.readouterr().err
