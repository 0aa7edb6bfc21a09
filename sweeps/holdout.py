"""Holdout: measures the picks, and the base, on rows that no eval of a trial has asked.

python -m sweeps.holdout --experiment stage4 --candidate 'C2 @ 60' --candidate 'D1 @ 90 x 0.5'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.cli.ended_options import STORAGE, ExperimentName, Storage, TrackingUri, help_with_exit_codes
from trainables.command import run
from trainables.errors import ExitCode, UserError

if TYPE_CHECKING:
    from sweeps.execution.later_evals import EndedExperiment
    from trainables.derived.copies import AdapterCopy
    from trainables.engine import Engine
    from trainables.probes.probe import Baseline

HELP = help_with_exit_codes(
    "Measure candidates and the base on the holdout, rows that no eval has asked; nothing trains.\n\n"
    "Every seed of a candidate is asked; the rows are --test and --ood-test of the study. `footprint pareto` "
    "prints the command for its picks. Choose first: a candidate chosen on these rows is "
    "measured too high."
)


def main(
    experiment: ExperimentName,
    candidate: Annotated[list[str], typer.Option(help="A pick, as 'C2 @ 60 x 0.5'; may be repeated.")],
    storage: Storage = STORAGE,
    tracking_uri: TrackingUri = "",
) -> None:
    """Measure candidates on the holdout of an experiment."""
    from sweeps.execution.holdout_file import holdout_of
    from sweeps.execution.later_evals import copy_to_mlflow, ended_experiment, measure_into
    from sweeps.execution.named_copies import unmeasured
    from trainables.derived.candidate_name import parse_candidate
    from trainables.record import HOLDOUT

    names = list(dict.fromkeys(parse_candidate(text) for text in candidate))
    ended = ended_experiment(storage, experiment, tracking_uri)
    holdout = holdout_of(ended.experiment.directory)
    if holdout is None:
        raise UserError(
            f"{ended.experiment.directory}: the experiment must have a holdout, but it has none",
            "launch it again with --test and --ood-test: trials that have ended are not run again",
        )
    with ended.held() as ended:
        missing = unmeasured(ended, names, HOLDOUT, "picks", typer.echo)
        counts = measure_into(HOLDOUT, ended, missing, typer.echo, holdout.rows_of, measured_base, all_rows=True)
        copy_to_mlflow(ended, tracking_uri, typer.echo)
    raise typer.Exit(ExitCode.TRIALS_FAILED if counts.invalid else ExitCode.DONE)


def measured_base(engine: Engine, ended: EndedExperiment, copies: Sequence[AdapterCopy]) -> Mapping[str, Baseline]:
    """Measure the base on the holdout, keep it in the records of the baselines, and return it by their trial ids."""
    from trainables.derived.measuring import measure_base
    from trainables.record import HOLDOUT

    measured, known = measure_base(engine)
    records = {record.name: record for record in (ended.baseline_of(one.record.spec()) for one in copies)}
    for record in records.values():
        if not record.later_evals(HOLDOUT):
            record.append(measured, HOLDOUT)
    return {record.spec().trial_id: known for record in records.values()}


main.__doc__ = HELP

if __name__ == "__main__":
    run(main)
