"""Tests that the documentation builds without a warning and loads nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from shell_blocks import ROOT

# what a browser fetches by itself; a link that a reader may follow is none
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\"' >]+"
    r"|<link\b(?![^>]*\brel=[\"']?(?:canonical|next|prev))[^>]*\bhref=[\"']?(?:https?:)?//[^\"' >]+"
    r"|(?:@import|url\()\s*[\"']?(?:https?:)?//[^\"') ]+",
)
has_mkdocs = pytest.mark.skipif(
    importlib.util.find_spec("material") is None, reason="the extra `docs` is not installed: make docs"
)


def fetched_from_elsewhere(text: str) -> list[str]:
    return FETCHED.findall(text)


@has_mkdocs
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    built = [path for path in (tmp_path / "site").rglob("*") if path.suffix in (".html", ".css")]
    assert len(built) >= 40
    found = {path.name: found for path in built if (found := fetched_from_elsewhere(path.read_text("utf-8")))}
    assert found == {}
    pages = [path for path in built if path.suffix == ".html" and path.name != "404.html"]
    assert all(re.search('name="?viewport', path.read_text("utf-8")) for path in pages)
    assert (tmp_path / "site" / "search" / "search_index.json").exists()


def test_the_navigation_plugins_and_fonts_are_local() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert not re.search(r"https?://|extra_javascript|analytics", text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('<script src="https://cdn.example.org/x.js"></script>', 1),
        ('<script src="//cdn.example.org/x.js"></script>', 1),
        ("<img alt=a src=https://example.org/a.png>", 1),
        ('<link rel="stylesheet" href="https://fonts.example.org/css">', 1),
        ('<link href="https://example.org/" rel=preconnect>', 1),
        ("@import url(https://example.org/a.css)", 1),
        ("a { background: url('//example.org/a.png') }", 1),
        ('<a href="https://example.org">a link</a> <script src="assets/x.js"></script>', 0),
    ],
)
def test_what_is_fetched_from_elsewhere_is_found(text: str, count: int) -> None:
    assert len(fetched_from_elsewhere(text)) == count
