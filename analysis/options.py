"""Options that several commands have, and the words that repeat them in a printed command."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from trainables.errors import holds_password

STORE, STORAGE, DEFAULT_LEVEL = "sqlite:///mlflow.db", "runs", 0.9

TrackingUri = Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow store.")]
Generality = Annotated[
    str,
    typer.Option(
        help="Generality: NAME or NAME:higher or NAME:lower.",
        show_default="irrelevant_pass; text_retention where no picture was shown",
    ),
]
Fit = Annotated[
    str,
    typer.Option(
        help="Task fit: NAME or NAME:higher or NAME:lower.",
        show_default="exact_match; eval_loss where no answer is exact",
    ),
]
Level = Annotated[
    float, typer.Option(min=0.5, max=0.999, help="Probability of meeting the constraint that the pick must have.")
]


@dataclass(frozen=True)
class ConclusionOptions:
    """What a command concludes from: the store, the objectives (empty for the default) and the level."""

    experiment: str
    tracking_uri: str = STORE
    x: str = ""
    y: str = ""
    further: tuple[str, ...] = ()
    level: float = DEFAULT_LEVEL

    def words(self) -> list[str]:
        """Return the options that make another command conclude the same; those at their defaults are left out."""
        chosen = [*(["--x", self.x] if self.x else []), *(["--y", self.y] if self.y else [])]
        return [*chosen, *(["--level", f"{self.level:g}"] if self.level != DEFAULT_LEVEL else []), *self.store_words()]

    def store_words(self) -> list[str]:
        """Return the option that names the store, as `store_words` does."""
        return store_words(self.tracking_uri)


def store_words(tracking_uri: str) -> list[str]:
    """Return the option that names a store, unless it is the default, in the environment, or holds a password."""
    is_found = tracking_uri in (STORE, os.environ.get("MLFLOW_TRACKING_URI"))
    return [] if is_found or holds_password(tracking_uri) else ["--tracking-uri", tracking_uri]


def storage_words(storage: Path) -> list[str]:
    """Return the option that names the directory of the experiments, unless it is the default."""
    return [] if storage.resolve() == Path(STORAGE).resolve() else ["--storage", str(storage)]
