"""The environment variables that the code reads."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.reference.tables import code, page, table

INTRODUCTION = """
An option of the command line wins over a variable; only `--address auto` takes `RAY_ADDRESS` where it is set. Nothing
else of the environment changes what a trial computes; `CUDA_VISIBLE_DEVICES` and the numbers of threads decide where
and how fast.
"""
READ: Mapping[str, str] = {
    "FOOTPRINT_COMMANDS": "the form of printed commands, `footprint` or `modules`; else that of the command",
    "FOOTPRINT_DATA": "further directories in which the pictures of data may lie; absolute, separated as in `PATH`",
    "FOOTPRINT_LMMS_PYTHON": "Python of the environment in which lmms-eval is installed",
    "FOOTPRINT_NOTIFY": "what `--notify` says: a URL, or a command",
    "FOOTPRINT_PRELOADED": "`off` starts every process anew instead of forking it from one that has imported torch; "
    "otherwise set by the launch",
    "FOOTPRINT_THREADS": "most threads of an engine, as `--threads`",
    "MLFLOW_TRACKING_URI": "MLflow's store, without `--tracking-uri`; the place for an address with a password",
    "RAY_ADDRESS": "Ray cluster that a launch joins, as `--address`",
    "RAY_AUTH_MODE": "`token`, the default, or what Ray takes instead",
    "RAY_AUTH_TOKEN": "token of a Ray cluster, instead of a file",
    "RAY_AUTH_TOKEN_PATH": "file of that token, by default `~/.ray/auth_token`",
    "RAY_TMPDIR": "directory below which Ray's session on this machine lies, by default that for temporary files",
    "XDG_CACHE_HOME": "directory below which digests, scans and measured speeds are kept, by default `~/.cache`",
    "PYTHONPATH": "kept, and given to the processes that a command starts",
    "CUDA_VISIBLE_DEVICES": "GPUs that may be used",
}
GIVEN: Mapping[str, str] = {
    "FOOTPRINT_TEXT": "the message, for the command of `--notify`",
}
LIBRARIES: Mapping[str, str] = {
    "HF_HOME": "where transformers keeps bases of the hub",
    "HF_HUB_OFFLINE": "`1` asks no hub",
    "HF_TOKEN": "token for bases that are not public",
    "MLFLOW_TRACKING_USERNAME": "name for an MLflow server; also `MLFLOW_TRACKING_PASSWORD`, `MLFLOW_TRACKING_TOKEN`",
    "OMP_NUM_THREADS": "threads of torch in processes that no engine sets",
    "NO_COLOR": "`1` prints without colours",
    "COLUMNS": "width of tables where the output is no terminal",
}


def environment_page() -> str:
    """Return the page of environment variables."""
    return page(
        "Environment variables", INTRODUCTION, "## Read by Footprint", _table(READ),
        "## Given to what it starts", _table(GIVEN), "## Read by its libraries", _table(LIBRARIES),
        "Telemetry of Ray and MLflow is switched off by the commands, and by `make`.",
    )  # fmt: skip


def _table(variables: Mapping[str, str]) -> str:
    return table(("variable", "meaning"), [(code(name), meaning) for name, meaning in variables.items()])
