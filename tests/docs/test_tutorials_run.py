"""Tests that the blocks of the tutorials run, in their order, and print what the pages show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from shell_blocks import ROOT, Block, blocks_of, pages

from sweeps.execution.submission import studies

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
FIRST = ("docs/get-started.md", "docs/frontier.md", "docs/serving.md")  # in one directory, with one experiment
OTHERS = ("docs/formats.md", "docs/writing-ood.md", "docs/budget.md", "docs/studies.md", "docs/text-model.md",
          "docs/vision-model.md")  # fmt: skip
FOREIGN = re.compile(
    r"…|\b[A-Z]{3,}[A-Z0-9]*\b|\.(jsonl|yaml|json|csv)\b|://|--(winners|init-from|resume|stages)|ifeval|narrow$"
)


def run(text: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run lines of a page in bash, with this checkout's commands; the first that fails ends it."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "80",
    }
    return subprocess.run(["/bin/bash", "-e", "-o", "pipefail", "-c", text], cwd=directory, env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)  # fmt: skip


def missing_lines(shown: str, printed: str) -> list[str]:
    """Return the lines of a page that were not printed in this order; numbers, spaces, folds and `…` may differ."""
    rest = " ".join(filter(None, (_comparable(line) for line in printed.splitlines())))
    missing = []
    for line in shown.splitlines():
        if not line.strip(" …"):
            continue
        _, found, after = rest.partition(_comparable(line))
        if found:
            rest = after
        else:
            missing.append(line)
    return missing


def _comparable(line: str) -> str:
    return re.sub(r"[0-9a-f]*\d[0-9a-f.,]*", "#", " ".join(line.partition("…")[0].split()))


def assert_runs(blocks: list[Block], directory: Path) -> None:
    for block in blocks:
        done = run(block.text, directory)
        where = f"{block.page.name}:{block.line}"
        assert done.returncode == 0, f"{where}\n{done.stdout[-6000:]}"
        assert "Traceback" not in done.stdout, f"{where}\n{done.stdout[-6000:]}"
        assert missing_lines(block.shown, done.stdout) == [], f"{where}\n{done.stdout[-6000:]}"


def test_get_started_to_a_shipped_adapter(tmp_path: Path) -> None:
    assert_runs([block for name in FIRST for block in blocks_of(ROOT / name) if block.is_run], tmp_path)


@pytest.mark.parametrize("name", OTHERS)
def test_a_tutorial(name: str, tmp_path: Path) -> None:
    blocks = [block for block in blocks_of(ROOT / name) if block.is_run]
    assert blocks
    assert_runs(blocks, tmp_path)


def test_a_block_that_is_run_is_on_a_page_that_is_run() -> None:
    run_pages = {str(block.page.relative_to(ROOT)) for page in pages() for block in blocks_of(page) if block.is_run}
    assert run_pages == {*FIRST, *OTHERS}


def planned() -> list[str]:
    """Return the commands of studies on the miniatures, which need nothing that a page does not have."""
    found = []
    for page in pages():
        for block in blocks_of(page):
            for line in block.text.replace("\\\n", " ").splitlines() if not block.is_run else ():
                command = line.partition("  #")[0].partition("&&")[0].strip()
                words = command.split()
                if words[:1] == ["footprint"] and words[1] in studies() and not FOREIGN.search(command):
                    found.append(command)
    return sorted(set(found))


@pytest.mark.parametrize("command", planned())
def test_a_command_of_a_study_plans(command: str, tmp_path: Path) -> None:
    done = run(f"{command} --dry-run", tmp_path)
    assert "Traceback" not in done.stdout, done.stdout[-3000:]
    expected = 2 if command == "footprint coverage --only failing" else 0
    assert done.returncode == expected, done.stdout[-3000:]


def test_most_studies_are_planned() -> None:
    assert len({command.split()[1] for command in planned()}) >= 8


@pytest.mark.parametrize(
    ("shown", "printed", "missing"),
    [
        ("rows 12, 4 of 9\n…", "a\nrows   960, 3 of 64\n", []),
        ("rows 12", "row 12", ["rows 12"]),
        ("b\na", "a\nb", ["a"]),
        ("trial 1f3a done", "x trial 77e2 done", []),
        ("a …", "a and more", []),
        ("ship a, which meets the\nlimit", "ship a, which\nmeets the limit", []),
        ("a\nb", "", ["a", "b"]),
    ],
)
def test_a_line_that_was_not_printed_is_found(shown: str, printed: str, missing: list[str]) -> None:
    assert missing_lines(shown, printed) == missing
