"""Loads tasks of lm-eval from local files, and checks them before anything is spent."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from trainables.errors import UserError, nearest
from trainables.spec import ProbeRequest

INSTALL = 'pip install "lora-footprint[eval]", or from a checkout: pip install "lm-eval[ifeval]>=0.4.13,<0.5"'
FILE_READERS = ("json", "csv", "parquet", "arrow", "text")  # of `datasets`
EVAL_SPLITS = ("test_split", "validation_split")
# what the code of a task may raise
FOREIGN_ERRORS = (
    LookupError, ValueError, TypeError, ImportError, OSError, AttributeError, AssertionError, RuntimeError, NameError,
)  # fmt: skip


def check_installed() -> None:
    """Raise a UserError with the pip line if lm-eval is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError("--probes lm-eval needs the package lm-eval, but it is not installed", INSTALL)


def loaded_tasks(requests: Sequence[ProbeRequest]) -> list[Any]:
    """Load tasks with their rows.

    Raises:
        UserError: lm-eval is not installed; a task is unknown (the nearest is named), is a group, or is marked as
            running foreign code; or its rows are not local.
    """
    check_installed()
    with _quiet_and_offline():
        from lm_eval.tasks import TaskManager  # type: ignore[import-not-found] an extra

        needs_known = any(one.config is None for one in requests)
        manager = TaskManager(include_defaults=needs_known)
        return [_loaded(one, manager) for one in requests]


def _loaded(request: ProbeRequest, manager: Any) -> Any:
    config = _config(request, manager)
    name = config["task"]
    if config.get("unsafe_code"):
        raise UserError(
            f"a task must not run what a model wrote, but `{name}` is marked `unsafe_code`",
            "run it with lm-eval itself, in a sandbox, on a saved adapter",
        )
    config = {**config, **_own_rows(config, request)}
    _check_local(config)
    try:
        found = manager.load([config])["tasks"]
    except FOREIGN_ERRORS as error:
        raise UserError(
            f"task `{name}` of lm-eval must load its rows, but: {_first_line(error)}",
            "see lm-eval's own guide to tasks",
        ) from None
    (task,) = found.values()
    return task


def _config(request: ProbeRequest, manager: Any) -> dict[str, Any]:
    from lm_eval.tasks._yaml_loader import load_yaml  # type: ignore[import-not-found]

    path = request.config.path if request.config else _path_of(request.task, manager)
    try:
        config = load_yaml(path)
    except (*FOREIGN_ERRORS, yaml.YAMLError) as error:
        raise UserError(f"{path}: a task of lm-eval must be a YAML file, but: {_first_line(error)}") from None
    if not isinstance(config.get("task"), str) or "class" in config:
        raise UserError(
            f"{path}: `task` must be the name of one task, but got {str(config.get('task'))[:80]}",
            "groups, and tasks defined in Python, cannot be a probe: name single tasks",
        )
    return _absolute(config, path.parent)


def _path_of(name: str, manager: Any) -> Path:
    entry = manager.task_index.get(name)
    if entry is None:
        raise UserError(f"lm-eval must have the task, but it has no `{name}`", nearest(name, manager.all_subtasks))
    if name not in manager.all_subtasks:
        members = sorted(one for one in entry.tags or () if one in manager.all_subtasks)
        hint = f"name its tasks: {', '.join(members[:8])}" if members else "name single tasks of it"
        raise UserError(f"a probe must be one task of lm-eval, but `{name}` is a group of tasks", hint)
    return Path(entry.yaml_path)


def _absolute(config: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Return a configuration whose data files are looked up beside its YAML file: workers run elsewhere."""
    options = config.get("dataset_kwargs") or {}
    files = options.get("data_files")
    if files is None:
        return config
    return {**config, "dataset_kwargs": {**options, "data_files": _beside(files, directory)}}


def _beside(files: Any, directory: Path) -> Any:
    if isinstance(files, Mapping):
        return {split: _beside(one, directory) for split, one in files.items()}
    if isinstance(files, list):
        return [_beside(one, directory) for one in files]
    return str(directory / Path(files).expanduser())


def _own_rows(config: Mapping[str, Any], request: ProbeRequest) -> dict[str, Any]:
    if request.rows is None:
        return {}
    split = next((config[key] for key in EVAL_SPLITS if config.get(key)), None)
    if split is None or config.get("num_fewshot"):
        raise UserError(
            f"rows of your own can take the place of a task's only split, but `{config['task']}` has "
            f"{'no split to evaluate' if split is None else 'examples from another one'}",
            "write a YAML file for it, with `dataset_path: json` and `data_files` for each split, and name that",
        )
    reader = {".csv": "csv", ".parquet": "parquet"}.get(request.rows.path.suffix, "json")
    files = {"data_files": {split: str(request.rows.path)}}
    return {"dataset_path": reader, "dataset_name": None, "dataset_kwargs": files}


def _check_local(config: Mapping[str, Any]) -> None:
    path, name = config.get("dataset_path"), config["task"]
    if callable(config.get("custom_dataset")):
        return
    files = (config.get("dataset_kwargs") or {}).get("data_files")
    if path in FILE_READERS and files:
        missing = [one for one in files_in(files) if not one.is_file()]
        if missing:
            raise UserError(f"{missing[0]}: task `{name}` of lm-eval reads this file, but there is none")
    elif not path or not Path(path).is_dir():
        raise UserError(
            f"the rows of a task must be local files, but those of `{name}` are the data set `{path}` of a hub",
            f"save its rows as JSONL with the same columns, and pass --probes lm-eval:{name}=ROWS.jsonl",
        )


def files_in(files: Any) -> Iterator[Path]:
    """Yield the paths in `data_files`: one, a list, or either by split."""
    if isinstance(files, Mapping):
        files = list(files.values())
    for one in files if isinstance(files, list) else [files]:
        yield from files_in(one) if isinstance(one, list | Mapping) else (Path(one),)


@contextmanager
def _quiet_and_offline() -> Iterator[None]:
    """Let a task look nothing up: `ifeval` would fetch data of nltk, but for this variable."""
    import logging

    kept, level = os.environ.get("LOCAL_RANK"), logging.getLogger("lm_eval").level
    os.environ["LOCAL_RANK"] = "1"
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    try:
        yield
    finally:
        os.environ.pop("LOCAL_RANK", None)
        if kept is not None:
            os.environ["LOCAL_RANK"] = kept
        logging.getLogger("lm_eval").setLevel(max(level, logging.ERROR))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" *\n")]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
