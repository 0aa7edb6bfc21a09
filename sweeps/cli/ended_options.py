"""Options of the commands that measure an experiment after its trials have ended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainables.errors import EXIT_CODE_MEANINGS

ExperimentName = Annotated[str, typer.Option(help="Experiment whose trials have ended.")]
Storage = Annotated[Path, typer.Option(help="Directory of the experiments.")]
TrackingUri = Annotated[str, typer.Option(help="MLflow tracking URI.", show_default="sqlite:///mlflow.db")]

STORAGE = Path("runs")


def help_with_exit_codes(text: str) -> str:
    """Return the help of a command, followed by its exit codes."""
    return f"{text}\n\nExit codes: {' · '.join(f'{code} {meaning}' for code, meaning in EXIT_CODE_MEANINGS.items())}."
