"""Rescale: evaluates every kept adapter at parts of its strength, and the average of its last evals, without training.

python -m sweeps.rescale --experiment stage4
python -m sweeps.rescale --experiment stage4 --only C2,D1 --scales 0.3,0.6
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.cli.ended_options import STORAGE, ExperimentName, Storage, TrackingUri, help_with_exit_codes
from trainables.command import run
from trainables.errors import ExitCode, UserError

if TYPE_CHECKING:
    from trainables.derived.copies import AdapterCopy
    from trainables.record import Record

HELP = help_with_exit_codes(
    "Evaluate every kept adapter at parts of its strength, and the average of its last three evals; nothing trains.\n\n"
    "The results are candidates of `footprint pareto`. Runs on the first device of this machine."
)


def main(
    experiment: ExperimentName,
    scales: Annotated[str, typer.Option(help="Parts of the strength.", show_default="0.25,0.5,0.75")] = "",
    only: Annotated[str, typer.Option(help="Arms, e.g. A1,C2.", show_default="all")] = "",
    storage: Storage = STORAGE,
    tracking_uri: TrackingUri = "",
) -> None:
    """Evaluate scaled and averaged copies of the adapters of an experiment."""
    from sweeps.display.summary import pareto_command
    from sweeps.execution.later_evals import copy_to_mlflow, ended_experiment, measure_into, of_arms
    from trainables.derived.copies import parse_scales
    from trainables.record import DERIVED

    strengths = parse_scales(scales)
    ended = ended_experiment(storage, experiment, tracking_uri)
    records = of_arms(ended, only)
    with ended.held() as ended:
        missing, known = missing_copies(records, strengths)
        typer.echo(f"{known + len(missing)} copies of {len(records)} trials, {known} of them measured before")
        counts = measure_into(DERIVED, ended, missing, typer.echo)
        copy_to_mlflow(ended, tracking_uri, typer.echo)
    following = pareto_command(experiment, tracking_uri)
    typer.echo(f"measured {counts.measured - counts.invalid} copies; next: {following}")
    raise typer.Exit(ExitCode.TRIALS_FAILED if counts.invalid else ExitCode.DONE)


def missing_copies(records: Sequence[Record], scales: Sequence[str]) -> tuple[list[AdapterCopy], int]:
    """Return the copies that are not yet measured, and how many are.

    Raises:
        UserError: no adapter is kept.
    """
    from trainables.derived.copies import KEEP_HINT, copies_of
    from trainables.record import DERIVED

    missing, known = [], 0
    for record in records:
        measured = {(one.step, one.scale) for one in record.later_evals(DERIVED)}
        copies = copies_of(record, scales)
        missing += [one for one in copies if (one.step, one.scale) not in measured]
        known += sum((one.step, one.scale) in measured for one in copies)
    if not missing and not known:
        raise UserError("a trial must keep its adapters to be measured at parts of their strength, but none does",
                        KEEP_HINT)  # fmt: skip
    return missing, known


main.__doc__ = HELP

if __name__ == "__main__":
    run(main)
