"""Sources that are not read, and a planned trial of Stage 4 on the miniature's base."""

from __future__ import annotations

from sweeps.planning.sources import Sources
from sweeps.planning.space import Axes, expand
from sweeps.stage4 import STUDY
from trainables.mini import BASE_DIRECTORY
from trainables.spec import Source, TrialSpec


def sources(is_miniature: bool = False, train_rows: int = 45_000, sees: bool = True) -> Sources:
    def source(name: str) -> Source:
        return Source(path=f"/data/{name}", sha256=name)  # type: ignore[arg-type]

    return Sources(source("base"), source("train"), source("val"), source("ood"), train_rows, is_miniature, sees=sees)


def trial(**changes: object) -> TrialSpec:
    spec = expand(STUDY, Axes(only=("C2",)), sources())[-1]
    return spec.model_copy(update={"base": Source(path=BASE_DIRECTORY, sha256="base"), **changes})
