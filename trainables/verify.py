"""Checks that a directory holds one complete, trained adapter that can be trained further; works for any PEFT adapter.

    python -m trainables.verify runs/stage4/trials/C2-…/best [--base DIR]

The base is built from its configuration on torch's meta device: no base weights are read and nothing is downloaded.
PEFT then loads the adapter onto it for training. Exit codes: 0 if every check passes, 1 if one fails, 2 if there is no
adapter to check.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainables.checkpoints.verification import verify
from trainables.command import quieten_libraries, run
from trainables.errors import ExitCode


def main(
    directory: Annotated[Path, typer.Argument(help="Adapter directory saved by PEFT.")],
    base: Annotated[Path | None, typer.Option(help="Base model directory.", show_default="the adapter's")] = None,
) -> None:
    """Check that an adapter is complete, trained, the only active one, and trainable on a frozen base."""
    quieten_libraries()
    verification = verify(directory, base)
    for check in verification.checks:
        typer.echo(f"{'✓' if check.passed else '✗'} {check.found}")
        if not check.passed and check.hint:
            typer.echo(f"    hint: {check.hint}")
    raise typer.Exit(ExitCode.DONE if verification.passed else ExitCode.CHECK_FAILED)


if __name__ == "__main__":
    run(main)
