"""Reads `--probes`: the shift, and tasks of suites; checks them before anything is spent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from trainables.errors import UserError, items, named, nearest
from trainables.io.checksums import canonical_json
from trainables.io.task_files import YAML_SUFFIXES, file_digest, task_digest
from trainables.spec import ProbeRequest, Source, TrialSpec
from trainables.typed import typed

OPTION, EXAMPLE = "--probes", "shift lm-eval:TASK,DIR/task.yaml,TASK=ROWS.jsonl"
SHIFT, LM_EVAL, LMMS_EVAL = "shift", "lm-eval", "lmms-eval"


def parse_probes(text: str) -> tuple[ProbeRequest, ...]:
    """Read the probes that a launch asks for, separated by spaces; files are hashed.

    Raises:
        UserError: a probe is unknown, has no task, is given twice, or names a file that does not exist.
    """
    found = [one for word in text.split() for one in _requests(word)]
    keys = [canonical_json(one.identity()) for one in found]
    if len(set(keys)) < len(keys):
        raise UserError(f"{OPTION} must name each probe once, but got `{named(text)}`")
    return tuple(found)


def check_probes(specs: Iterable[TrialSpec]) -> frozenset[str]:
    """Load the tasks that trials ask for, score made-up answers, and return the names of the metrics.

    Raises:
        UserError: a suite is not installed (with the pip line), a task is unknown, or its rows are not local.
    """
    return check_requests(dict.fromkeys(one for spec in specs for one in spec.probes))


def check_requests(requests: Iterable[ProbeRequest]) -> frozenset[str]:
    """Load the tasks that are asked for, and return the names of the metrics; raises as `check_probes`."""
    requests = list(requests)
    names: set[str] = set()
    if any(one.suite == SHIFT for one in requests):
        from trainables.probes.shift import METRICS

        names |= {one.name for one in METRICS}
    tasks = [one for one in requests if one.suite == LM_EVAL]
    if tasks:
        from trainables.suites.lm_eval_tasks import check_installed

        check_installed()
        from trainables.suites.lm_eval_probe import check_tasks

        names |= set(check_tasks(tasks).metrics)
    return frozenset(names)


def suite_tokens(specs: Iterable[TrialSpec]) -> dict[ProbeRequest, int]:
    """Return the tokens that an eval of these trials, on one base, reads and writes at most for each task of a suite.

    Raises:
        UserError: as `check_probes`.
    """
    specs = list(specs)
    tasks = list(dict.fromkeys(one for spec in specs for one in spec.probes if one.suite == LM_EVAL))
    if not tasks:
        return {}
    from trainables.suites.lm_eval_probe import tokens_of_tasks

    return tokens_of_tasks(tasks, specs[0].base.path)


def _requests(word: str) -> Iterator[ProbeRequest]:
    suite, colon, tasks = word.partition(":")
    if suite == SHIFT and not colon:
        yield ProbeRequest(suite=SHIFT)
    elif suite == LMMS_EVAL:
        raise UserError(
            "lmms-eval measures adapters that are kept, in an environment of its own, but --probes asks at each eval",
            f"after training: {_lmms_command(tasks)}",
        )
    elif suite != LM_EVAL or not tasks:
        known = (SHIFT, f"{LM_EVAL}:TASK", f"{LMMS_EVAL}:TASK")
        hint = nearest(word, known) if suite != LM_EVAL else f"for example {OPTION} {LM_EVAL}:ifeval=ROWS.jsonl"
        raise UserError(f"{OPTION} must name `shift` or tasks of a suite, but got `{named(word)}`", hint)
    else:
        for task in items(tasks, OPTION, EXAMPLE):
            yield _task(task)


def _lmms_command(tasks: str) -> str:
    asked = [one if "=" in one else f"{one}={one}.jsonl" for one in (tasks or "pope,mmvp").split(",") if one]
    return typed("lmms-eval", "--checkpoint-dir", "ADAPTER", "--python", "ENV/bin/python", "--tasks", ",".join(asked))


def _task(text: str) -> ProbeRequest:
    name, equals, rows = text.partition("=")
    if Path(name).suffix in YAML_SUFFIXES:
        if equals:
            raise UserError(f"{OPTION}: an own task names its rows itself, but got `{named(text)}`")
        path = _existing(name)
        return ProbeRequest(suite=LM_EVAL, config=Source(path=path, sha256=task_digest(path)))
    if not equals:
        return ProbeRequest(suite=LM_EVAL, task=name)
    path = _existing(rows)
    return ProbeRequest(suite=LM_EVAL, task=name, rows=Source(path=path, sha256=file_digest(path)))


def _existing(text: str) -> Path:
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"{OPTION}: {path} must be a file, but there is none")
    return path
