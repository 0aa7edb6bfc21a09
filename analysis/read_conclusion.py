"""Reads a study from MLflow and concludes, as a command was asked to."""

from __future__ import annotations

import sys

from analysis.conclusion import Conclusion, conclude
from analysis.decision.judged import MINIMUM_LOSS_GAIN
from analysis.logged_measurements import read_logged
from analysis.objectives import EXACT, LOSS, fit_in, frontier_objectives, generality_in
from analysis.options import ConclusionOptions
from trainables.metrics import GENERALITY


def read_conclusion(asked: ConclusionOptions) -> Conclusion:
    """Read the runs of an experiment and conclude; bad objectives are refused before the store is read.

    Raises:
        UserError: an objective is bad or was not measured, or the store does not answer or has no such experiment.
    """
    frontier_objectives(asked.x or GENERALITY[0], asked.y or EXACT, asked.further)
    logged = read_logged(asked.experiment, asked.tracking_uri)
    study = logged.runs
    objectives = frontier_objectives(
        asked.x or generality_in(study.trials), asked.y or fit_in(study.trials), asked.further
    )
    if not asked.y and objectives[1].name == LOSS:
        print(f"no answer is exact in any trial: the fit is {LOSS}; a gain below {MINIMUM_LOSS_GAIN:g} counts as none",
              file=sys.stderr)  # fmt: skip
    return conclude(study, logged.trained, objectives, asked.level, logged.held_out)
