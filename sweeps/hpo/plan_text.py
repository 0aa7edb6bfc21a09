"""The plan of a search as text: its space, objectives and budget, the data, and what is decided at the evals."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from sweeps.display.plan_table import NO_VISION_TOWER, date_text, decisions_text, found_text, quality_grid
from sweeps.execution.adapter_space import budget_bytes
from sweeps.execution.experiment import Experiment
from sweeps.execution.forecast import forecast_texts, with_width
from sweeps.execution.holdout_file import planned_holdout
from sweeps.execution.options import Launch
from sweeps.hpo.sampler import SearchSettings
from sweeps.hpo.space import Search
from sweeps.planning.holdout import holdout_text
from sweeps.planning.kept_forecast import KeptForecast
from sweeps.planning.mixes import mix_text
from sweeps.planning.plan import Plan
from trainables.pareto import parse_objectives

CHOSEN = " The objectives are task fit, and generality as this base and its rows measure it."


def settings_of(search: Search) -> SearchSettings:
    """Return the settings that determine the points of a search.

    Raises:
        UserError: an objective is unknown.
    """
    return SearchSettings(search.space, parse_objectives(search.objectives), search.sampler, search.cohort, search.seed)


def show_search(search: Search, planned: Plan, launch: Launch, is_told: bool = True) -> None:
    """Print the space, the objectives, the budget, a summary of the data, what is forecast, and the findings.

    `search` is as it is on the base and the data of the plan; `is_told` says that its objectives were named.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("varied", no_wrap=True)
    table.add_column("between")
    for name, dimension in search.space.dimensions.items():
        table.add_row(name, str(dimension))
    objectives = " and ".join(f"{one.name} ({one.direction} is better)" for one in settings_of(search).objectives)
    launch.console.print(Text(f"{search.study.name}: {search.study.question}", style="bold"), table)
    launch.console.print(
        f"{search.trials} trials for {objectives}; {search.sampler} suggests {search.cohort} at a time, seed "
        f"{search.seed}.{'' if is_told else CHOSEN}",
        highlight=False,
    )
    launch.console.print(quality_grid(planned.preflight.data))
    launch = with_width(launch, [planned], search.cohort, search.cohort)
    tower = "" if planned.sources.sees else NO_VISION_TOWER
    notes = date_text(planned.sources), planned.sources.dropped, tower, planned.active.left_out
    replay = mix_text(planned.specs, planned.preflight.data)
    taken = forecast_texts([planned], launch, search.cohort, extremes(planned.kept), search.trials)
    for note in filter(None, (*notes, *decisions_text(planned), replay, *taken)):
        launch.console.print(note, soft_wrap=True, highlight=False)
    launch.console.print(holdout_text(planned_holdout(planned, launch)), soft_wrap=True, highlight=False)
    experiment = Experiment(launch.directory(search.study))
    kept = experiment.kept(launch.keep, budget_bytes(experiment, planned.forecasts, search.trials))
    launch.console.print(kept.text, soft_wrap=True, highlight=False)
    for text in found_text(planned.preflight, launch.force):
        launch.console.print(text, soft_wrap=True, highlight=False)


def extremes(kept: Sequence[KeptForecast]) -> list[KeptForecast]:
    """Return the placements at the edges of a space of which least and most is kept."""
    ordered = sorted(kept, key=lambda one: (one.kept_bytes, one.saved_share))
    return ordered if len(ordered) < 2 else [ordered[0], ordered[-1]]
