"""Tests that every command ends bad input in `error:` and a documented exit code, and never in a traceback."""

from __future__ import annotations

import importlib
import itertools
import os
import re
import runpy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from ended import Ended, ended, ended_by

from trainables import command
from trainables.errors import ExitCode

pytestmark = pytest.mark.usefixtures("miniature_drawn_once")
ROOT = Path(__file__).parents[1]
STUDIES = (
    "commands",
    "continuation",
    "coverage",
    "curriculum",
    "modules",
    "narrow",
    "quantization",
    "response",
    "search",
    "smoke",
    "stage4",
    "unfreeze",
)
# a module -> the words before a path that it reads
PATHS: dict[str, list[tuple[str, ...]]] = {
    **{f"sweeps.{name}": [("--dry-run", "--storage")] for name in STUDIES},
    "sweeps.trial": [("--dry-run",)],
    "sweeps.doctor": [("--storage",)],
    "sweeps.down": [()],
    "sweeps.project.command": [("new", "--train")],
    "sweeps.explain": [("--language=1", "--base")],
    "sweeps.holdout": [("--experiment=x", "--candidate=C2 @ 60", "--storage")],
    "sweeps.finalists": [("--experiment=x", "--candidate=C2 @ 60", "--storage")],
    "sweeps.rescale": [("--experiment=x", "--storage")],
    "trainables.verify": [()],
    "trainables.validate": [("--allow-cpu", "--tracking-uri=none", "--data-path={rows}", "--checkpoint-dir"),
                            ("--allow-cpu", "--tracking-uri=none", "--checkpoint-dir=gone", "--data-path"),
                            ("--allow-cpu", "--tracking-uri=none", "--checkpoint-dir=gone", "--data-path={rows}",
                             "--patterns")],
    "trainables.data": [("check",), ("filter", "--drop=broken", "--out=new.jsonl")],
    "trainables.export": [("--as=axolotl",)],
    "trainables.mini": [],
    "trainables.mini.text": [],
    "analysis.cli": [("results", "--experiment=x", "--storage")],
    "benchmarks": [],
    "benchmarks.corpus": [],
    "benchmarks.decisions": [],
    "benchmarks.gpu": [],
    "benchmarks.guards": [],
    "benchmarks.evals": [],
    "benchmarks.kept": [],
    "benchmarks.forecast": [],
    "benchmarks.load": [],
    "benchmarks.shift": [],
    "benchmarks.shared_weights": [],
    "trainables.probes.answer": [],
    "trainables.probes.kit": [],
    "trainables.suites.lmms_eval": [],
    "analysis": [],
    "sweeps": [],
    "trainables": [],
    "benchmarks.mixes": [],
    "benchmarks.start": [],
    "benchmarks.peers": [],
    "benchmarks.public_configs": [],
    "benchmarks.reach": [],
    "benchmarks.reference": [],
    "benchmarks.search_replay": [],
    "benchmarks.stability": [("gone",)],
    "benchmarks.stock": [("one", "mini")],
    "benchmarks.tool_schemas": [],
}  # fmt: skip
PATHS["sweeps.stage4"] += [("--dry-run", "--base"), ("--dry-run", "--winners"), ("--dry-run", "--init-from"),
                           ("--dry-run", "--val={rows}", "--ood={rows}", "--train")]  # fmt: skip
PATHS["sweeps.curriculum"].append(("--dry-run",))
WORKERS = ("trainables.data.scan", "trainables.selftest.machine", "trainables.selftest.reload",
           "trainables.shipping.worker", "trainables.training.layer_gradients",
           "trainables.preloaded.server", "sweeps.execution.joining",
           "benchmarks.load_driver")  # fmt: skip
# run by benchmarks.peers or a suite, some with the Python of another environment
PEERS = (
    "benchmarks.careful",
    "benchmarks.peer_ours",
    "benchmarks.with_llamafactory",
    "benchmarks.with_trl",
    "trainables.suites.lmms_worker",
)
DEEP = "[" * 3000
# path -> what it holds; None for one that cannot be made or does not exist
FILES: dict[str, bytes | None] = {
    "missing": None, "nul\0": None, "loop": None, "n" * 300: None, "directory": None,
    "deep.jsonl": f'{{"prompt": {DEEP}'.encode(), "deep.yaml": f"base_model: {DEEP}".encode(),
    "deep.json": f'{{"name": {DEEP}'.encode(), "binary.jsonl": b"\xff\x00\xfe", "empty.json": b"",
    "digits.json": b'{"prompt": ' + b"9" * 5000 + b"}",
}  # fmt: skip


def ran(module: str, *words: str) -> Ended:
    if module == "sweeps.trial":  # its options are a class, whose source runpy does not find
        return ended_by(importlib.import_module(module).main, module, *words)
    return ended_by(lambda: runpy.run_module(module, run_name="__main__"), module, *words)


PROGRESS = re.compile(r"\d\d:\d\d:\d\d ")


def assert_said(found: Ended, codes: tuple[ExitCode, ...] = (ExitCode.BAD_INPUT,)) -> None:
    assert "Traceback" not in found.output, found.output[-2000:]
    said = [line for line in found.stderr.splitlines() if not PROGRESS.match(line)]
    assert said and said[0].startswith("error: "), found.output[-2000:]
    assert found.exit_code in codes


@pytest.fixture(autouse=True)
def _below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, content in FILES.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "directory").mkdir()
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115 closed with the process
    yield


def test_every_module_with_a_command_line_is_listed() -> None:
    folders = ("sweeps", "trainables", "analysis", "benchmarks")
    sources = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    found = [path for path in sources if '\nif __name__ == "__main__"' in path.read_text("utf-8")]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__") for path in found}
    assert modules == {*PATHS, *WORKERS, *PEERS}


@pytest.mark.parametrize("module", PATHS)
@pytest.mark.parametrize("words", [("--no-such-option",), ("",), ("\udcff",), ("--out=",)])
def test_a_wrong_word(module: str, words: tuple[str, ...]) -> None:
    assert_said(ran(module, *words))


QUICK = {"sweeps.stage4", "sweeps.trial", "trainables.data", "trainables.verify"}  # the others run with the slow tests
CASES = [
    pytest.param(module, before, marks=() if module in QUICK else pytest.mark.slow)
    for module, all_words in PATHS.items()
    for before in all_words
]


@pytest.mark.parametrize("name", FILES, ids=lambda name: ascii(name[:12]))
@pytest.mark.parametrize(("module", "before"), CASES, ids=lambda part: part if isinstance(part, str) else part[-1:])
def test_a_wrong_path(module: str, before: tuple[str, ...], name: str, tmp_path: Path) -> None:
    if before[-1:] == ("--storage",) and name in {"directory", "missing"}:
        pytest.skip("a storage may be new")
    before = tuple(word.format(rows=tmp_path / "rows.jsonl") for word in before)
    found = ran(module, *before, str(tmp_path / name))
    if module == "sweeps.doctor" and found.exit_code == ExitCode.CHECK_FAILED:
        assert "fail  storage" in found.stdout
        return
    assert_said(found, (ExitCode.BAD_INPUT, ExitCode.RECORD_DAMAGED))


URLS = ("s3://bucket/x", "gs://bucket/x", "file:///mnt/x", "rows.jsonl,https://host/x.jsonl")


def app_of(module: str, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """Return the app that a module runs."""
    apps = []
    with monkeypatch.context() as patched:
        patched.setattr(command, "_invoke", lambda app, _: apps.append(app) or ExitCode.DONE)
        assert ran(module).exit_code == ExitCode.DONE
    [app] = apps
    return app


def path_words(app: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words that set each option and argument of a command and its subcommands that is a path."""
    earlier = ["--"]  # words for the arguments before this one
    for one in app.params:
        is_argument = one.param_type_name == "argument"
        if "Path" in str(one.type_descriptor.annotation):
            yield (*before, *(earlier if is_argument else one.opts[:1]))
        earlier += ["1"] * is_argument
    for name, subcommand in getattr(app, "commands", {}).items():
        yield from path_words(subcommand, (*before, name))


@pytest.mark.parametrize("module", PATHS)
def test_every_path_refuses_a_url(module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    app = app_of(module, monkeypatch)
    words = list(path_words(typer.main.get_command(app)))
    # NAME=DIR, or no path at all
    assert words or module in {"benchmarks.public_configs", "benchmarks.tool_schemas", "benchmarks.kept", "sweeps"}
    for one, url in itertools.product(words, URLS):
        found = ended(app, *one, url)
        assert_said(found)
        scheme = url.rpartition(",")[2].partition(":")[0]
        assert f"begins with `{scheme}:`" in found.stderr and ("--" in one or one[-1] in found.stderr)
    assert set(tmp_path.iterdir()) == before


def numbers_of_thousands_slow(cases: Iterable[tuple[str, ...]]) -> list[Any]:
    """Leave most words of thousands of characters to the slow tests: each plans anew until it is refused."""
    return [pytest.param(one, marks=[pytest.mark.slow] * (len(one[-1]) >= 4000)) for one in cases]


BUDGETS = [
    ("--epochs", "inf"), ("--epochs", "nan"), ("--epochs", "1e400"), ("--epochs", "1e12"), ("--epochs", "9" * 5000),
    ("--steps", "1000000000"), ("--steps", "9" * 4000), ("--steps", "9" * 5000), ("--steps=-1",), ("--eval-every", "x"),
]  # fmt: skip


@pytest.mark.parametrize("words", numbers_of_thousands_slow(BUDGETS), ids=lambda words: " ".join(words)[:20])
def test_a_budget_that_no_machine_finishes(words: tuple[str, ...]) -> None:
    assert_said(ran("sweeps.stage4", "--dry-run", *words))


@pytest.mark.parametrize(
    "words",
    numbers_of_thousands_slow([
        ("--set", f"dropout={DEEP}"), ("--set", f"data_seed={'9' * 5000}"), ("--set", f"data_seed={'9' * 4000}"),
        ("--set", ","), ("--set", "dropout=0.1,,"), ("--set", "target_modules=q_proj++v_proj"), ("--only", ",,"),
        ("--only", "A1,"), ("--only", "A" * 3000), ("--lr", ","), ("--lr", "inf"), ("--lr", "nan"), ("--rank", ",8"),
        ("--rank", "9" * 4000), ("--rank", "9" * 5000), ("--quant", "nf4,,int8"), ("--seeds", "1000000000"),
        ("--seeds", "9" * 4000), ("--drop", ","), ("--experiment", "e" * 300), ("--experiment", "a/b"),
        ("--experiment", "a\nb"), ("--tracking-uri", "ftp://x"), ("--scheduler", "asha", "--scheduler-options", ","),
        ("--threads", "0.5"), ("--threads=-1",),
        ("--set", "batch_rows=1000000000"), ("--set", "packed_tokens=1e99"),
    ]),
    ids=lambda words: " ".join(words)[:30],
)  # fmt: skip
def test_a_value_that_no_launch_can_have(words: tuple[str, ...]) -> None:
    assert_said(ran("sweeps.stage4", "--dry-run", *words))


@pytest.mark.parametrize("words", [("--vary", "rank="), ("--vary", "rank=4,,8"), ("--vary", "epochs=inf"),
                                   ("--objectives", ","), ("--trials", "1000000000")])  # fmt: skip
def test_a_search_that_cannot_be(words: tuple[str, ...]) -> None:
    assert_said(ran("sweeps.search", "--dry-run", *words))


@pytest.mark.parametrize("module", WORKERS)
def test_a_worker_says_that_it_is_internal(module: str) -> None:
    assert re.search("is internal: another process starts it", ran(module, "--help").stdout)
    assert_said(ran(module))
