"""Tests that values in Markdown stay text, and that every template is installed with its package."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from analysis import templates

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("sweeps", "trainables", "analysis")


def test_every_folder_of_templates_is_package_data():
    """Otherwise the pages work in a checkout and fail where the package is installed."""
    folders = [folder for package in PACKAGES for folder in (ROOT / package).rglob("templates") if folder.is_dir()]
    assert folders
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    for folder in folders:
        assert data[".".join(folder.parent.relative_to(ROOT).parts)] == ["templates/*"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a | b", r"a \| b"),
        ("line\n  break", "line break"),
        ("<b>", "&lt;b>"),
        (r"\|", r"\\\|"),
        ("x" * 200, "x" * 159 + "…"),
    ],
)
def test_a_cell_is_one_line_without_markup(value: str, shown: str):
    assert templates.cell(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("irrelevant_pass 0.71 < 0.80", "irrelevant_pass 0.71 < 0.80"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("<!-- hidden -->", "&lt;!-- hidden -->"),
    ],
)
def test_no_html_begins_in_prose(value: str, shown: str):
    assert templates.prose(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [("plain", "`plain`"), ("a`b", "`` a`b ``"), ("``` <b>", "```` ``` <b> ````"), ("a\nb", "`a b`")],
)
def test_a_code_span_cannot_be_left_by_a_backtick(value: str, shown: str):
    assert templates.code(value) == shown


def test_html_is_escaped_and_markdown_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "pages" / "templates"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "page").write_text("{{ name }}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert templates.html("pages", "page", name="<b>'") == "&lt;b&gt;&#39;\n"
    assert templates.markdown("pages", "page", name="<b>'") == "<b>'\n"
    with pytest.raises(UndefinedError, match="name"):
        templates.html("pages", "page")


@pytest.mark.parametrize(
    ("value", "shown"), [("base", "base"), ("a; id", "'a; id'"), ("a\n```\nb", "'a ``` b'"), ("$(id)", "'$(id)'")]
)
def test_a_word_of_a_command_is_one_word(value: str, shown: str):
    assert templates.shell(value) == shown
