"""What a launch from a command line begins before its plan is read: imports of libraries, here and where it forks."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from trainables.preloaded.process import serving

if TYPE_CHECKING:
    from sweeps.execution.options import Launch


NEEDED = ("ray", "pandas", "ray.tune", "sweeps.execution.tuner", "sweeps.execution.fleet", "mlflow")


@contextmanager
def ahead(launch: Launch) -> Iterator[None]:
    """Import what the launch needs while its base and rows are read; nothing of it depends on them.

    A launch that joins a cluster forks nothing: its engines are elsewhere.
    """
    over = threading.Event()
    thread = threading.Thread(target=_import, args=(NEEDED, over), name="imports", daemon=True)
    thread.start()
    try:
        if launch.is_local:
            with serving():
                yield
        else:
            yield
    finally:
        over.set()
        thread.join()  # the interpreter must not end in the middle of an import


def _import(names: Sequence[str], over: threading.Event) -> None:
    for name in names:
        if over.is_set():
            return
        import_module(name)
