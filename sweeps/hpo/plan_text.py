"""The plan of a search as text: its space, objectives and budget, the data, and what is decided at the evals."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from sweeps.display.plan_table import date_text, decisions_text, found_text, quality_grid
from sweeps.execution.adapter_space import budget_bytes
from sweeps.execution.engine_text import threads_text
from sweeps.execution.experiment import Experiment
from sweeps.execution.holdout_file import planned_holdout
from sweeps.execution.options import Launch
from sweeps.hpo.sampler import SearchSettings
from sweeps.hpo.space import Search
from sweeps.planning.holdout import holdout_text
from sweeps.planning.plan import Plan
from trainables.pareto import parse_objectives


def settings_of(search: Search) -> SearchSettings:
    """Return the settings that determine the points of a search.

    Raises:
        UserError: an objective is unknown.
    """
    return SearchSettings(search.space, parse_objectives(search.objectives), search.sampler, search.cohort, search.seed)


def show_search(search: Search, planned: Plan, launch: Launch) -> None:
    """Print the space, the objectives, the budget, a summary of the data, and the findings of preflight."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("varied", no_wrap=True)
    table.add_column("between")
    for name, dimension in search.space.dimensions.items():
        table.add_row(name, str(dimension))
    objectives = " and ".join(f"{one.name} ({one.direction} is better)" for one in settings_of(search).objectives)
    launch.console.print(Text(f"{search.study.name}: {search.study.question}", style="bold"), table)
    launch.console.print(
        f"{search.trials} trials for {objectives}; {search.sampler} suggests {search.cohort} at a time, seed "
        f"{search.seed}.",
        highlight=False,
    )
    launch.console.print(quality_grid(planned.preflight.data))
    notes = date_text(planned.sources), planned.sources.dropped, planned.active.left_out
    for note in (*notes, *decisions_text(planned)):
        if note:
            launch.console.print(note, soft_wrap=True, highlight=False)
    launch.console.print(threads_text(search.cohort, launch), soft_wrap=True, highlight=False)
    launch.console.print(holdout_text(planned_holdout(planned, launch)), soft_wrap=True, highlight=False)
    experiment = Experiment(launch.directory(search.study))
    kept = experiment.kept(launch.keep, budget_bytes(experiment, planned.forecasts, search.trials))
    launch.console.print(kept.text, soft_wrap=True, highlight=False)
    for text in found_text(planned.preflight, launch.force):
        launch.console.print(text, soft_wrap=True, highlight=False)
