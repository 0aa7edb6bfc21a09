"""Writes the winners of a study as configurations of another tool, read from their records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from analysis.frontier import FrontierInfo
from analysis.placements import PlacementRuns
from trainables.errors import UserError
from trainables.export.trial import export_record
from trainables.record import Record


def settings_of_winners(info: FrontierInfo, tool: str) -> dict[str, str]:
    """Return the configuration of `tool` for each placement on the frontier, by file name.

    For a placement with several seeds, it is the configuration of the first seed.

    Raises:
        UserError: the tool is unknown, no placement is on the frontier, or a winner's record is not on this machine.
    """
    winners = [one.placement for one in info.results if one.on_frontier and not one.placement.is_baseline]
    if not winners:
        raise UserError(f"only winners are exported, but no placement of `{info.experiment}` is on the frontier",
                        "a placement must gain over the baseline and violate no guard")  # fmt: skip
    return {f"{_name(winner)}.{tool}.yaml": export_record(_record(winner), tool) for winner in winners}


def write_settings(files: Mapping[str, str], directory: Path) -> list[Path]:
    """Write each configuration into `directory` and return the paths."""
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
    return [directory / name for name in files]


def _name(winner: PlacementRuns) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_.=" else "-" for letter in winner.label)


def _record(winner: PlacementRuns) -> Record:
    trial = (winner.admissible() or winner.seed_runs)[0].trial  # by rows, a placement counts by an eval before its stop
    if not trial.record or not Path(trial.record).is_dir():
        raise UserError(
            f"the settings of {trial.name} are read from its record, but "
            + (f"{trial.record} is not on this machine" if trial.record else "MLflow names none"),
            "run this on the machine with the records, or without --export-as",
        )
    return Record(Path(trial.record))
