"""Turns expected errors of a trial into a verdict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainables.errors import UserError
from trainables.io.files import FileDamaged
from trainables.source_check import SourceChanged
from trainables.verdict import Verdict

InputErrors = (UserError, torch.OutOfMemoryError)
ALLOCATOR_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise `torch.OutOfMemoryError` for whatever says that memory ran out: a CPU's allocator has no class of its own.

    Raises:
        torch.OutOfMemoryError: memory ran out within the block.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except MemoryError as error:
        raise torch.OutOfMemoryError(str(error) or "the machine has too little memory") from error
    except RuntimeError as error:
        if any(words in str(error) for words in ALLOCATOR_WORDS):
            raise torch.OutOfMemoryError(str(error)) from error
        raise


def infeasible(error: Exception, step: int) -> Verdict:
    """Return the verdict of a trial with invalid input or too little device memory; `step` is its last step.

    A trial whose sources have changed has failed: a resumed launch runs it again when the file is restored.
    """
    if isinstance(error, SourceChanged):
        return Verdict(kind="failed", step=step, cause="changed_source", reason=error.message)
    if isinstance(error, UserError):
        does = f"; {error.hint}" if isinstance(error, FileDamaged) and error.hint else ""
        return Verdict(kind="infeasible", step=step, cause="input", reason=error.message + does)
    return Verdict(kind="infeasible", step=step, cause="memory", reason=str(error).splitlines()[0])
