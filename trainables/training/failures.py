"""Turns foreseeable errors of a trial into its verdict."""

from __future__ import annotations

import torch

from trainables.errors import UserError
from trainables.record import Verdict

InputErrors = (UserError, torch.OutOfMemoryError)


def infeasible(error: Exception, step: int) -> Verdict:
    """Return the verdict of a trial that its input or the device's memory does not allow; `step` is the last one."""
    if isinstance(error, UserError):
        return Verdict(kind="infeasible", step=step, cause="input", reason=error.message)
    return Verdict(kind="infeasible", step=step, cause="out_of_memory", reason=str(error).splitlines()[0])
