"""A command as it is printed, to be typed: in the form in which the user called the one that prints it.

Who types `footprint stage4` reads `footprint pareto …`; who types `python -m sweeps.stage4` or `analysis pareto` reads
these forms. What is begun in another way, a notebook or a worker, prints `footprint`.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FORM = "FOOTPRINT_COMMANDS"  # of the environment: processes that a command starts print what the command would
MODULES = "modules"
ANALYSIS = ("compare", "effects", "pareto", "report", "results", "runs", "seeds", "ship")
TRAINABLES = ("data", "export", "lmms-eval", "mini", "validate", "verify")
ONLY_FOOTPRINT = ("init", "list", "logs", "rm", "status", "submit")
OTHER_NAMES = {"import": "trial", "lmms-eval": "suites.lmms_eval"}


def typed(name: str, *words: str) -> str:
    """Return a command of `footprint` with its words, as a shell reads it, in the form that the user types."""
    return shlex.join(typed_words(name, *words))


def typed_words(name: str, *words: str) -> list[str]:
    """Return the words of a command of `footprint`, in the form that the user types."""
    if os.environ.get(FORM) != MODULES or name in ONLY_FOOTPRINT:
        return ["footprint", name, *words]
    if name in ANALYSIS:
        return ["analysis", name, *words]
    package = "trainables" if name in TRAINABLES else "sweeps"
    return ["python", "-m", f"{package}.{OTHER_NAMES.get(name, name)}", *words]


def program() -> str:
    """Return the words by which the user called this process."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else Path(sys.argv[0]).name


@contextmanager
def remembering_form() -> Iterator[None]:
    """Keep the form in which the user called this process, for all that it starts, until the end of the block."""
    if FORM in os.environ:  # it was started by a command
        yield
        return
    os.environ[FORM] = MODULES if _is_called_by_module(program()) else "footprint"
    try:
        yield
    finally:
        os.environ.pop(FORM, None)


def _is_called_by_module(called: str) -> bool:
    module = called.removeprefix("python -m ")
    if module.partition(".")[0] == "analysis":
        return True
    return module != called and module.startswith(("sweeps.", "trainables."))
