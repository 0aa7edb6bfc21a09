"""Limits of what a trial may ask for: budgets that a machine can finish, and names that a file system takes."""

from __future__ import annotations

from collections.abc import Sequence

MOST_STEPS = 10**7
MOST_ROWS = 10**10  # steps x rows per step
MOST_NAME_BYTES = 200  # a file system allows 255; the id of the trial and suffixes follow
TRAIN_SLICE_ROWS = 64  # of every eval, unless a trial asks for others

EXPERTS = "experts"  # as a target module: the parameters of the experts, and no linear


def budget_problem(steps: int, effective_rows: int) -> str | None:
    """Return why no machine finishes a budget, None if it can be finished."""
    if steps > MOST_STEPS:
        return f"`steps` must be at most {MOST_STEPS:,}, or no machine finishes, but got {steps:,}"
    if (rows := steps * effective_rows) > MOST_ROWS:
        return (
            f"steps x batch_rows x accumulation_steps must be at most {MOST_ROWS:,} rows, or no machine finishes, "
            f"but got {rows:,}"
        )
    return None


def experts_problem(target_modules: Sequence[str], dropout: float) -> str | None:
    """Return why LoRA cannot be placed on experts in this way, None if it can or is not to be."""
    if EXPERTS not in target_modules:
        return None
    if len(target_modules) > 1:
        return f"target_modules must be `{EXPERTS}` alone, or names of linears, but got {'+'.join(target_modules)}"
    return f"dropout must be 0 on {EXPERTS}, as PEFT requires, but got {dropout:g}" if dropout else None


def checked_name(name: str) -> str:
    """Return `name` if it can be a part of the name of a file.

    Raises:
        ValueError: it cannot; says why.
    """
    if problem := name_problem(name):
        raise ValueError(problem)
    return name


def name_problem(name: str) -> str | None:
    """Return why a name cannot be a part of the name of a file, None if it can."""
    size = len(name.encode(errors="surrogateescape"))
    if not 0 < size <= MOST_NAME_BYTES:
        return f"must be a name of 1 to {MOST_NAME_BYTES} bytes, but it has {size:,}"
    if "/" in name or not name.isprintable():  # surrogates, from bytes that are not UTF-8, are not printable
        return "must be a name of printable letters without `/`"
    return None
