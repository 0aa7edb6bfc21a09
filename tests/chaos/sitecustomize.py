"""Lets one durable write of a process fail; Python imports this module at its start where PYTHONPATH names its folder.

`CHAOS` names a folder. Its file `fault.json` says which write fails: `role` of the process, `point`, `nth` call and
`kind`.
Without one, every write is listed in `points-PID`. A point is the function of the product that writes, and the call
of the system that makes the write last. A fault fires once: the file `fired` says where.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

FOLDER = os.environ.get("CHAOS", "")
ROOT = str(Path(__file__).parents[2]) + os.sep
PRODUCT = tuple(f"{ROOT}{package}{os.sep}" for package in ("sweeps", "trainables", "tests/sweeps"))
WRITERS = tuple(f"{ROOT}trainables{os.sep}{name}" for name in ("io/", "lease.py"))  # named by who calls them
TORN_BYTES = 20
DELAY_SECONDS = 2.0
STORE_CALLS = ("create_run", "end_run", "reopen_run", "log_batch", "log_data_files")
counts: Counter[str] = Counter()


def role() -> str:
    """Return which of the three kinds of process of a launch this is; `reloader` is a child of an engine."""
    if "trainables.workers.engine_actor" in sys.modules and "ray._private.workers.default_worker" in _main():
        return "engine"
    if "trainables.workers.trainable" in sys.modules and "ray._private.workers.default_worker" in _main():
        return "seat"
    return "reloader" if "selftest.reload" in _main() else "driver"


def _main() -> str:
    main = sys.modules.get("__main__")
    name = getattr(getattr(main, "__spec__", None), "name", "") or ""
    path = str(getattr(main, "__file__", "")).replace(os.sep, ".").removesuffix(".py")
    return f"{name} {path}"


def point(call: str) -> str | None:
    """Return the name of the write that is being made; None if no function of the product makes it."""
    frame = sys._getframe(2)
    named = None
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(PRODUCT):
            named = f"{Path(path).stem}.{frame.f_code.co_qualname}"
            if not path.startswith(WRITERS):
                break
        frame = frame.f_back
    return f"{named}:{call}" if named else None


def passes(call: str, descriptor: int | None = None) -> None:
    """Count a durable write, and let it fail if it is the chosen one."""
    _wrap_store()
    name = point(call)
    if name is None:
        return
    counts[name] += 1
    chosen = _fault()
    if chosen is None:
        _append(f"points-{os.getpid()}", json.dumps({"role": role(), "point": name}) + "\n")
    elif chosen["point"] == name and chosen["nth"] == counts[name] and chosen["role"] == role():
        _fire(chosen["kind"], descriptor)


def _fault() -> dict[str, Any] | None:
    path = Path(FOLDER) / "fault.json"
    return json.loads(path.read_text()) if path.exists() else None


def _append(name: str, text: str) -> None:
    descriptor = os.open(Path(FOLDER) / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def _fire(kind: str, descriptor: int | None) -> None:
    try:
        os.close(os.open(Path(FOLDER) / "fired", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    if kind == "delay":
        time.sleep(DELAY_SECONDS)
        return
    if kind == "torn" and descriptor is not None and (size := os.fstat(descriptor).st_size) > TORN_BYTES:
        os.truncate(f"/proc/self/fd/{descriptor}", size - TORN_BYTES)
    if kind in ("kill", "torn"):
        os.kill(os.getpid(), signal.SIGKILL)
    number = {"enospc": errno.ENOSPC, "eio": errno.EIO}[kind]
    raise OSError(number, os.strerror(number))


def _wrap_store() -> None:
    """Make the writes of the MLflow mirror points too, once its module is there: SQLite writes below Python."""
    store = sys.modules.get("trainables.mlflow_store")
    if store is None or hasattr(store, "is_chaotic") or not hasattr(store, STORE_CALLS[-1]):
        return
    store.is_chaotic = True  # type: ignore[attr-defined]
    for name in STORE_CALLS:
        setattr(store, name, _before(getattr(store, name), f"mlflow {name}"))


def _before(function: Any, call: str, takes_descriptor: bool = False) -> Any:
    def counted(*arguments: Any, **named: Any) -> Any:
        passes(call, arguments[0] if takes_descriptor and isinstance(arguments[0], int) else None)
        return function(*arguments, **named)

    return counted


if FOLDER:
    os.fsync = _before(os.fsync, "fsync", takes_descriptor=True)
    for name in ("replace", "rename", "link"):
        setattr(os, name, _before(getattr(os, name), name))
