"""Is this directory one whole, trained LoRA adapter that can be trained on? For any PEFT adapter, not only ours.

    python -m trainables.verify runs/stage4/trials/C2-…/best [--base DIR]

The base is built from its configuration alone, on torch's meta device: no weight is read, nothing is downloaded. PEFT
then loads the adapter onto it the way one does to train it on. Exit code 0 when every check passes, 1 when one fails,
2 when there is nothing to check. Source: brief 000.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from trainables.checkpoints.verification import verify
from trainables.errors import UserError


def main(
    directory: Annotated[Path, typer.Argument(help="Adapter directory saved by PEFT.")],
    base: Annotated[Path | None, typer.Option(help="Its base.", show_default="the one it names")] = None,
) -> None:
    """Check an adapter: one, active, whole, trained, and trainable on a frozen base."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)
    try:
        verification = verify(directory, base)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    for check in verification.checks:
        typer.echo(f"{'✓' if check.passed else '✗'} {check.found}")
        if not check.passed and check.hint:
            typer.echo(f"    hint: {check.hint}")
    raise typer.Exit(0 if verification.passed else 1)


if __name__ == "__main__":
    sys.exit(typer.run(main))
