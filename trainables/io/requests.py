"""Reads the request that a module of this project writes to the standard input of its worker process."""

from __future__ import annotations

import json
import sys
from typing import IO, Any

from trainables.errors import ExitCode


def read_request(module: str, user: str, arguments: list[str], requests: IO[str]) -> dict[str, Any]:
    """Return the JSON object on the first line of `requests`; a process that a person has started gets none.

    Args:
        module: the module that runs as a worker.
        user: what a person should run instead.

    Raises:
        SystemExit: there is no request; says that the module is internal.
    """
    is_asked_for_help = bool({"--help", "-h"} & {*arguments})
    line = "" if arguments or requests.isatty() else requests.readline()
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if isinstance(request, dict):
        return request
    what = f"{module} is internal: another process starts it and writes a request to its standard input"
    if is_asked_for_help:
        print(f"{what}.\nRun {user} instead.")
        raise SystemExit(ExitCode.DONE)
    print(f"error: {what}, but there is no request\nhint: run {user} instead", file=sys.stderr)
    raise SystemExit(ExitCode.BAD_INPUT)
