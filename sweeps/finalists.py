"""Finalists: asks the candidates for the pick every row, those of the reserve too.

python -m sweeps.finalists --experiment stage4 --candidate 'C2 @ 60' --candidate 'D1 @ 90 x 0.5'
"""

from __future__ import annotations

from typing import Annotated

import typer

from sweeps.cli.ended_options import STORAGE, ExperimentName, Storage, TrackingUri, help_with_exit_codes
from trainables.command import run
from trainables.errors import ExitCode, UserError

HELP = help_with_exit_codes(
    "Measure candidates, every seed of them, on all irrelevant rows; nothing trains.\n\n"
    "An eval asks a core of 48 only. `footprint pareto` prints the command for the candidates that "
    "can still be picked, and then picks with these rows. Runs on the first device of this machine."
)


def main(
    experiment: ExperimentName,
    candidate: Annotated[list[str], typer.Option(help="A candidate, as 'C2 @ 60 x 0.5'; may be repeated.")],
    storage: Storage = STORAGE,
    tracking_uri: TrackingUri = "",
) -> None:
    """Measure candidates on all irrelevant rows of an experiment."""
    from sweeps.display.summary import pareto_command
    from sweeps.execution.later_evals import copy_to_mlflow, ended_experiment, measure_into
    from sweeps.execution.named_copies import unmeasured
    from trainables.derived.candidate_name import parse_candidate
    from trainables.record import FINALISTS

    names = list(dict.fromkeys(parse_candidate(text) for text in candidate))
    ended = ended_experiment(storage, experiment, tracking_uri)
    if not any(one.reserve for record in ended.baselines.values() for one in record.evals()):
        raise UserError(
            f"{ended.experiment.directory}: there must be irrelevant rows that no eval asks, but evals ask them all",
            f"nothing is left to ask; choose with: {pareto_command(experiment, tracking_uri)}",
        )
    with ended.held() as ended:
        missing = unmeasured(ended, names, FINALISTS, "candidates", typer.echo)
        counts = measure_into(FINALISTS, ended, missing, typer.echo, all_rows=True)
        copy_to_mlflow(ended, tracking_uri, typer.echo)
    typer.echo(f"next: {pareto_command(experiment, tracking_uri)}")
    raise typer.Exit(ExitCode.TRIALS_FAILED if counts.invalid else ExitCode.DONE)


main.__doc__ = HELP

if __name__ == "__main__":
    run(main)
