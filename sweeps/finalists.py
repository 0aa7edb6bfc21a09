"""Finalists: asks the candidates for the pick every row, those of the reserve too.

python -m sweeps.finalists --experiment stage4 --candidate 'C2 @ 60' --candidate 'D1 @ 90 x 0.5'
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainables.command import run
from trainables.errors import EXIT_CODE_MEANINGS, ExitCode, UserError

HELP = (
    "Measure candidates, every seed of them, on all irrelevant rows, without training: an eval asks a core of 48 only. "
    "`analysis pareto` prints the command for the candidates that can still be picked, and then picks with these "
    "rows. Runs on the first device of this machine.\n\n"
    f"Exit codes: {' · '.join(f'{code} {meaning}' for code, meaning in EXIT_CODE_MEANINGS.items())}."
)


def main(
    experiment: Annotated[str, typer.Option(help="Experiment whose trials have ended.")],
    candidate: Annotated[list[str], typer.Option(help="A candidate, as 'C2 @ 60 x 0.5'; may be repeated.")],
    storage: Annotated[Path, typer.Option(help="Directory of the experiments.")] = Path("runs"),
    tracking_uri: Annotated[
        str, typer.Option(help="MLflow tracking URI.", show_default="sqlite:///mlflow.db")
    ] = "",
) -> None:  # fmt: skip
    """Measure candidates on all irrelevant rows of an experiment."""
    from sweeps.display.summary import pareto_command
    from sweeps.execution.later_evals import copy_to_mlflow, ended_experiment, measure_into
    from sweeps.execution.named_copies import copies_named, unmeasured
    from trainables.derived.candidate_name import parse_candidate
    from trainables.record import FINALISTS

    names = list(dict.fromkeys(parse_candidate(text) for text in candidate))
    ended = ended_experiment(storage, experiment, tracking_uri)
    if not any(one.reserve for record in ended.baselines.values() for one in record.evals()):
        raise UserError(
            f"{ended.experiment.directory}: there must be irrelevant rows that no eval asks, but evals ask them all",
            f"nothing is left to ask; choose with: {pareto_command(experiment, tracking_uri)}",
        )
    with ended.experiment.locked():
        found = copies_named(ended, names, typer.echo)
        copies = [one for of_name in found.values() for one in of_name]
        missing = unmeasured(copies, FINALISTS)
        typer.echo(f"{len(copies)} adapters of {len(found)} candidates, {len(copies) - len(missing)} measured before")
        counts = measure_into(FINALISTS, ended, missing, typer.echo, all_rows=True)
        copy_to_mlflow(ended, tracking_uri, typer.echo)
    typer.echo(f"next: {pareto_command(experiment, tracking_uri)}")
    raise typer.Exit(ExitCode.TRIALS_FAILED if counts.invalid else ExitCode.DONE)


main.__doc__ = HELP

if __name__ == "__main__":
    run(main)
