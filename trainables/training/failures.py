"""Turns expected errors of a trial into a verdict."""

from __future__ import annotations

import torch

from trainables.errors import UserError
from trainables.source_check import SourceChanged
from trainables.verdict import Verdict

InputErrors = (UserError, torch.OutOfMemoryError)


def infeasible(error: Exception, step: int) -> Verdict:
    """Return the verdict of a trial with invalid input or too little device memory; `step` is its last step.

    A trial whose sources have changed has failed: a resumed launch runs it again when the file is restored.
    """
    if isinstance(error, SourceChanged):
        return Verdict(kind="failed", step=step, cause="changed_source", reason=error.message)
    if isinstance(error, UserError):
        return Verdict(kind="infeasible", step=step, cause="input", reason=error.message)
    return Verdict(kind="infeasible", step=step, cause="out_of_memory", reason=str(error).splitlines()[0])
