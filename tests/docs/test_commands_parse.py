"""Tests that every command in the documentation parses, and that tutorials say of each block whether a test runs it."""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from shell_blocks import ROOT, Block, blocks_of, inline_commands, pages, problem_of

from sweeps.execution.submission import studies

# pages whose blocks are all run, or say why not; on other pages a block without a comment is parsed, and planned
TUTORIALS = (
    "README.md", "docs/budget.md", "docs/cohorts.md", "docs/formats.md", "docs/frontier.md", "docs/get-started.md",
    "docs/gpus.md", "docs/mlflow.md", "docs/models.md", "docs/serving.md", "docs/studies.md", "docs/text-model.md",
    "docs/vision-model.md", "docs/writing-ood.md",
)  # fmt: skip


def problems_of(page: Path, text: str | None = None) -> list[str]:
    return [
        f"{page.name}:{block.line}: {problem}"
        for block in blocks_of(page, text)
        for words in block.commands()
        if (problem := problem_of(words))
    ]


def unsaid(blocks: list[Block]) -> list[int]:
    return [block.line for block in blocks if not (block.is_run or block.is_not_run)]


def fences(kind: str) -> Iterator[tuple[str, str]]:
    for page in pages():
        for found in re.finditer(rf"^```{kind}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            yield f"{page.parent.name}/{page.name}", found[1]


@pytest.fixture(autouse=True)
def _benchmarks_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_command_of_a_page_parses(page: Path) -> None:
    assert problems_of(page) == []


def inline_problems(text: str) -> list[str]:
    """Return what is wrong with the commands that sentences name, which may leave words out."""
    named = [words for words in inline_commands(text) if not words[1:2] or not words[1].isupper()]  # any command
    problems = [problem_of(words) or "" for words in named]
    return [problem for problem in problems if problem and not problem.endswith("is missing")]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_command_that_a_sentence_names_exists(page: Path) -> None:
    assert inline_problems(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [("`footprint ship` and\n`footprint data check FILE --base\nDIR`", 0), ("`footprint shipp`", 1),
     ("`footprint stage4 … --onli A1`", 1), ("`analysis paretto`", 1), ("`python -m sweeps.stage4 --onli x`", 1),
     ("`footprint.commands`, `analysis/cli.py` and `footprint`", 0)],
)  # fmt: skip
def test_a_planted_fault_in_a_sentence_is_found(text: str, count: int) -> None:
    assert len(inline_problems(text)) == count


def test_commands_are_in_fences_of_bash() -> None:
    """A fence of another kind would not be read; the reference of commands is written from the code."""
    found = [page.name for page in pages() if page.parent.name != "reference"
             if re.search(r"^```(sh|shell|console|zsh)\b", page.read_text("utf-8"), re.MULTILINE)]  # fmt: skip
    assert found == []


def test_the_pages_have_commands() -> None:
    assert sum(bool(words) for page in pages() for block in blocks_of(page) for words in block.commands()) >= 100


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("footprint stage4 --dry-run --onli A1", "No such option: --onli"),
        ("footprint stagefour", "has no command `stagefour`"),
        ("footprint stage4 A1", "unexpected A1"),
        ("footprint stage4 --seeds three", "valid integer"),
        ("footprint stage4 --seeds 0", "greater than or equal to 1"),
        ("footprint pareto --experiment x --format pdf", "pdf"),
        ("footprint ship --experiment x", "--out is missing"),
        ("footprint mini display", "display"),
        ("footprint submit cluster.yaml stage4 --onli A1", "No such option: --onli"),
        ("analysis paretto", "paretto"),
        ("X=1 python -m sweeps.stage4 --onli A1", "No such option: --onli"),
        ("python -m trainables.probes.kit --outt kit", "No such option: --outt"),
        ("python -m trainables.gone", "trainables.gone"),
        ("cd x && footprint list --storrage y", "No such option: --storrage"),
        ("make stage5", "no target stage5"),
        ("footprint stage4 \\\n    --onli A1", "No such option: --onli"),
    ],
)
def test_a_planted_fault_is_found(line: str, problem: str) -> None:
    [found] = problems_of(Path("page.md"), f"```bash\n{line}\n```\n")
    assert problem in found


@pytest.mark.parametrize("line", ["footprint stage4 --only A1 > log.txt", "FOOTPRINT_DATA=/x footprint list  # all",
                                  "make stage4 ARGS=--dry-run", "footprint submit cluster.yaml stage4 --seeds 3",
                                  "footprint pareto --experiment x || true", "mlflow ui"])  # fmt: skip
def test_a_right_command_is_no_fault(line: str) -> None:
    assert problems_of(Path("page.md"), f"```bash\n{line}\n```\n") == []


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_says_of_each_block_whether_it_is_run(name: str) -> None:
    blocks = blocks_of(ROOT / name)
    assert blocks and unsaid(blocks) == []


def test_a_block_without_a_comment_or_without_a_reason_is_found() -> None:
    text = "```bash\na\n```\n\n<!-- not run here: -->\n\n```bash\nb\n```\n\n<!-- run -->\n\n```bash\nc\n```\n"
    assert unsaid(blocks_of(Path("page.md"), text)) == [1, 7]


def test_python_of_the_pages_compiles_and_its_names_exist() -> None:
    # the reference shows signatures, which are no statements; it is written from the code
    found = [(page, text) for page, text in fences("python") if not page.startswith("reference/")]
    assert len(found) >= 4
    for _, text in found:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("sweeps", "analysis"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, one.name) for one in node.names)


def test_json_of_the_pages_is_json() -> None:
    found = [line for _, text in fences("json") for line in text.splitlines() if line.startswith('{"')]
    assert len(found) >= 5
    assert all(json.loads(line.replace("…}", "}")) for line in found)


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- [^#\n]*: ([\w/-]+\.md)$", text[text.index("\nnav:") :], re.MULTILINE)
    assert yaml.safe_load(text)["theme"]["font"] is False
    written = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(written)


def test_the_page_of_studies_names_every_study() -> None:
    named = re.findall(r"^\| \[`footprint (\w+)`\]", (ROOT / "docs/studies.md").read_text("utf-8"), re.MULTILINE)
    assert set(named) == {*studies(), "explain"}
