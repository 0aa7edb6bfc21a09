"""Measures a kept adapter with tasks of lmms-eval, which runs in an environment of its own.

    python -m trainables.suites.lmms_eval --checkpoint-dir runs/stage4/trials/C2-…/best \
        --python ~/lmms/bin/python --tasks pope=pope.jsonl,mmvp=mmvp.jsonl

lmms-eval builds the requests there, the adapter answers here as in serving, and lmms-eval scores the answers. Its rows
are local JSONL files with the columns of the task; `image` is the path of a picture. Exit code 2 for invalid input.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from trainables.command import quieten_libraries, run
from trainables.data.rows import Message
from trainables.errors import UserError, items, named
from trainables.evaluation.held_out import AdaptedModel, check_device, verified_checkpoint
from trainables.io.files import write_text
from trainables.probes.metric import Declared, Direction

VARIABLE = "FOOTPRINT_LMMS_PYTHON"
WORKER = Path(__file__).with_name("lmms_worker.py")
INSTALL = "python -m venv ENV && ENV/bin/pip install 'lmms_eval>=0.7.3', then --python ENV/bin/python"
NEW_TOKENS = 256
MEND = 2


@dataclass(frozen=True)
class SuiteRequest:
    """One request of lmms-eval: its key, text and pictures, how many tokens its answer may have, and what ends it."""

    key: str
    text: str
    pictures: tuple[Path, ...]
    new_tokens: int
    until: tuple[str, ...] = ()


@dataclass(frozen=True)
class SuiteResult:
    """One metric of a suite: its name, value and description."""

    name: str
    value: float
    declared: Declared


def parse_tasks(text: str) -> dict[str, Path]:
    """Read `pope=pope.jsonl,mmvp=mmvp.jsonl`.

    Raises:
        UserError: a task has no file of rows, or the file does not exist.
    """
    found = {}
    for item in items(text, "--tasks", "pope=pope.jsonl"):
        name, _, rows = item.partition("=")
        path = Path(rows).expanduser().resolve()
        if not rows or not path.is_file():
            raise UserError(
                f"--tasks must name a local file of rows for each task, but got `{named(item)}`",
                f"save its rows as JSONL with the columns of the task, pictures in `image`: {name}={name}.jsonl",
            )
        found[name] = path
    if not found:
        raise UserError("--tasks must name a task, but got none", "for example --tasks pope=pope.jsonl")
    return found


def checked_python(path: Path | None) -> Path:
    """Return the interpreter of lmms-eval's environment.

    Raises:
        UserError: none is given, or it cannot import lmms-eval.
    """
    chosen = path or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if chosen is None:
        raise UserError(
            f"lmms-eval needs an environment of its own, but neither --python nor {VARIABLE} names it", INSTALL
        )
    chosen = chosen.expanduser().absolute()  # a link into another environment must stay one
    try:
        code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('lmms_eval') is None)"
        done = subprocess.run([str(chosen), "-c", code], capture_output=True, check=False)  # noqa: S603 the user's own
    except OSError as error:
        raise UserError(
            f"--python must be an interpreter, but {chosen} cannot run: {error.strerror}", INSTALL
        ) from None
    if done.returncode:
        raise UserError(f"lmms-eval must be installed for --python, but {chosen} has none", INSTALL)
    return chosen


def requests_in(path: Path) -> Iterator[SuiteRequest]:
    """Yield the requests that lmms-eval wrote.

    Raises:
        UserError: an answer would be sampled.
    """
    for line in path.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        options = one["options"]
        if options.get("do_sample") and options.get("temperature", 1.0) > 0:
            raise UserError(f"an answer must be greedy, but task `{one['key'].split('/')[0]}` samples")
        pictures = tuple(Path(picture) for picture in one["pictures"])
        new_tokens, until = int(options.get("max_new_tokens", NEW_TOKENS)), tuple(options.get("until") or ())
        yield SuiteRequest(one["key"], one["text"], pictures, new_tokens, until)


def answered(model: AdaptedModel, requests: Sequence[SuiteRequest]) -> dict[str, str]:
    """Answer requests greedily, one at a time as in serving; pictures come before the text."""
    from trainables.data.formats import IMAGE_TAG
    from trainables.evaluation.decoding import decode_greedily
    from trainables.suites.answering import cut

    found = {}
    for one in requests:
        message = Message("user", IMAGE_TAG * len(one.pictures) + one.text)
        prompt = model.encoder.prompt((message,), one.pictures)
        (decoded,) = decode_greedily(model.model, model.encoder, model.base.device, [prompt], one.new_tokens)
        found[one.key] = cut(decoded.text, one.until)
    return found


def run_worker(python: Path, directory: Path, *answers: str) -> None:
    """Run lmms-eval's side in its environment, without a network.

    Raises:
        UserError: it ended with an error; shows its last line.
    """
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONPATH": ""}
    command = [str(python), str(WORKER), str(directory), *answers]
    done = subprocess.run(  # noqa: S603 as above
        command, capture_output=True, text=True, check=False, cwd=directory, env={**os.environ, **offline}
    )
    lines = done.stderr.strip().splitlines() or [""]
    if done.returncode == MEND and lines[-1].startswith("{"):
        told = json.loads(lines[-1])
        raise UserError(told["message"], told["hint"] or None)
    if done.returncode:
        raise UserError(f"lmms-eval must end without an error, but it said: {lines[-1][:300]}")


def read_results(path: Path) -> list[SuiteResult]:
    """Read what lmms-eval found."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return [_measured(one) for one in found["metrics"]]


def _measured(one: Mapping[str, Any]) -> SuiteResult:
    direction: Direction = "higher" if one["higher"] else "lower"
    unit = "fraction" if 0 <= one["value"] <= 1 else "as in the suite"
    counts = f"{one['name'].rpartition('/')[2]} of lmms-eval"
    return SuiteResult(one["name"], one["value"], Declared(direction, unit, counts, one["rows"], one["error"]))


def measure(model: AdaptedModel, python: Path, tasks: Mapping[str, Path]) -> list[SuiteResult]:
    """Ask a model the rows of tasks and return lmms-eval's scores.

    Raises:
        UserError: a task is unknown, samples, or cannot read its rows.
    """
    with TemporaryDirectory() as scratch:
        directory = Path(scratch)
        write_text(directory / "tasks.json", json.dumps({name: str(rows) for name, rows in tasks.items()}))
        run_worker(python, directory)
        answers = answered(model, list(requests_in(directory / "requests.jsonl")))
        write_text(directory / "answers.json", json.dumps(answers))
        run_worker(python, directory, str(directory / "answers.json"))
        return read_results(directory / "results.json")


def main(  # one function is the whole command line
    checkpoint_dir: Annotated[Path, typer.Option(help="Adapter directory saved by PEFT.")],
    tasks: Annotated[str, typer.Option(help="Tasks with their rows, e.g. pope=pope.jsonl,mmvp=mmvp.jsonl.")],
    python: Annotated[
        Path | None, typer.Option(help="Python of lmms-eval's environment.", show_default=VARIABLE)
    ] = None,
    output: Annotated[Path | None, typer.Option(help="JSON file for the scores.", show_default="none")] = None,
    base: Annotated[Path | None, typer.Option(help="Base model directory.", show_default="the adapter's")] = None,
    allow_cpu: Annotated[bool, typer.Option("--allow-cpu", help="Run without CUDA.")] = False,
) -> None:
    """Measure a kept adapter with tasks of lmms-eval."""
    quieten_libraries()
    asked, interpreter = parse_tasks(tasks), checked_python(python)
    check_device(allow_cpu)
    checkpoint = verified_checkpoint(checkpoint_dir, base, None)
    from trainables.model.base import default_device

    found = measure(AdaptedModel.load(checkpoint, default_device(), NEW_TOKENS), interpreter, asked)
    for one in found:
        error = "" if one.declared.error is None else f" ± {one.declared.error:.3f}"
        typer.echo(f"{one.name} {one.value:.3f}{error} ({one.declared.rows} rows, {one.declared.direction} is better)")
    if output is not None:
        body = {one.name: {"value": one.value, **asdict(one.declared)} for one in found}
        write_text(output, json.dumps({"adapter_sha256": checkpoint.sha256, "metrics": body}, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
