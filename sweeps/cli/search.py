"""The command line of a search: its space, its sampler and its budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sweeps.cli.axes import one_mix, placed
from sweeps.cli.command_line import CommandLine
from sweeps.cli.main import run_command_line
from sweeps.cli.options import ACTIONS, DATA, FORECAST, HOLDOUT, PLACED, SPACE, LaunchOptions, option
from trainables.errors import UserError, items, nearest, quoted

if TYPE_CHECKING:
    from sweeps.execution.options import Launch
    from sweeps.execution.schedulers import Scheduler
    from sweeps.hpo.run import SearchJob
    from sweeps.hpo.space import Dimension, Search


MEASURED = "exact_match, and generality as the data measure it"


@dataclass(frozen=True)
class SearchOptions:
    """The options of a search; `main` replaces the defaults by the search's values."""

    sampler: str = field(default="nsga2", metadata=option(SPACE))
    """Sampler: nsga2, tpe, gp or random."""
    trials: int = field(default=24, metadata=option(SPACE, minimum=1))
    """Total number of different trials."""
    cohort: int = field(default=8, metadata=option(SPACE, minimum=1))
    """Number of trials that are suggested and trained at a time."""
    seed: int = field(default=0, metadata=option(SPACE, minimum=0))
    """Seed of the sampler."""
    objectives: str = field(
        default="", metadata=option(SPACE, shown_default="exact_match, and the measured generality")
    )
    """Metrics to optimize, each NAME or NAME:higher or NAME:lower."""
    vary: list[str] | None = field(default=None, metadata=option(SPACE, shown_default="the search's"))
    """A dimension of the space, as rank=8,16 or learning_rate=1e-4..1e-3; may be repeated."""


SHARED = (
    "eval_every", "train_slice_rows", *PLACED, *DATA, *HOLDOUT, "split_holdout", "mix", "drop", "probes", "storage",
    "experiment", "tracking_uri", "address", "threads", "cache", "cache_gb", "keep", "resident", *FORECAST,
    "scheduler", "scheduler_options", *ACTIONS,
)  # fmt: skip
CHANGED = {
    "modules": {"shown_default": "all"},
    "layers": {"shown_default": "last",
               "help": "Which layers of a tower carry LoRA, drawn where several are named: last, first and gradient "
                       "(as many as the point has, or -N), every-N, all."},
    "mix": {"help": "General rows that every trial replays: general.jsonl:0.1 makes one row in ten of each pass a "
                    "replay row."},
}  # fmt: skip


def main(search: Search) -> None:
    """Run the command line of `search` and exit with a documented code."""
    run_command_line(line_of(search))


def line_of(search: Search) -> CommandLine[SearchOptions]:
    """Return the command line of `search`."""

    def job(own: SearchOptions, shared: LaunchOptions, launch: Launch) -> SearchJob:
        return job_of(search, own, shared, launch)

    own = {name: getattr(search, name) for name in ("sampler", "trials", "cohort", "seed")}
    given = {**own, **({"objectives": ",".join(search.objectives)} if search.objectives else {})}
    defaults = {name: {"default": value} for name, value in given.items()}
    return CommandLine(
        search.study,
        SearchOptions,
        SHARED,
        job,
        {**CHANGED, **defaults},
        resume_takes_all_options=True,
        begun="search.db",
        with_study=lambda study: line_of(replace(search, study=study)),
    )


def job_of(search: Search, own: SearchOptions, shared: LaunchOptions, launch: Launch) -> SearchJob:
    """Return the job that the options describe.

    Raises:
        UserError: options are malformed, or there is no search to resume.
    """
    from sweeps.hpo.run import SearchJob, resumed_search
    from sweeps.planning.space import MOST_TRIALS

    if own.trials > MOST_TRIALS:
        raise UserError(f"--trials must be at most {MOST_TRIALS:,}, but got {quoted(own.trials)}", "--trials 24")
    fixed = shared.fixed()
    study = replace(
        search.study,
        settings={**search.study.settings, **fixed},
        miniature={**search.study.miniature, **fixed},
        chosen_evals="eval_every_steps" in fixed,
    )
    dimensions = _dimensions(own, shared)
    changed = replace(
        search,
        study=study,
        space=search.space.changed(dimensions),
        named=tuple(dimensions),
        objectives=items(own.objectives, "--objectives", "exact_match,irrelevant_pass"),
        sampler=_sampler(own.sampler),
        trials=own.trials,
        cohort=own.cohort,
        seed=own.seed,
    )
    scheduler = _scheduler(changed.objectives, shared.scheduler, shared.scheduler_options)
    launch = replace(launch, scheduler=scheduler, cohort=1 if own.cohort == 1 else None)
    mix = one_mix(shared)
    if shared.resume and not shared.dry_run:
        return resumed_search(changed, launch, mix)
    return SearchJob(changed, launch, mix)


def _dimensions(own: SearchOptions, shared: LaunchOptions) -> dict[str, Dimension]:
    """Return the dimensions that `--vary`, `--modules` and `--layers` change."""
    from sweeps.hpo.space import Choice, parse_dimensions

    found = parse_dimensions(own.vary or ())
    for name, values in zip(PLACED, placed(shared), strict=True):
        if values and name in found:
            raise UserError(f"--{name} and --vary {name}= both choose, but only one of them may be given",
                            f"leave out --{name}")  # fmt: skip
        if values:
            found[name] = Choice(tuple(sorted(map(str, values))))
    return found


def _sampler(name: str):
    from sweeps.hpo.space import SAMPLERS

    known = [one for one in SAMPLERS if one == name]
    if not known:
        raise UserError(f"--sampler must be one of {', '.join(SAMPLERS)}, but got `{name}`", nearest(name, SAMPLERS))
    return known[0]


def _scheduler(names: Sequence[str], name: str, options: str) -> Scheduler | None:
    """Return the scheduler; its default metric is the objective of the search, if there is only one."""
    from sweeps.execution.schedulers import parse_scheduler
    from trainables.pareto import parse_objectives

    objectives = parse_objectives(names) if names else ()
    if name and len(objectives) == 1 and "metric" not in options:
        options = ",".join(filter(None, (options, f"metric={objectives[0].name}")))
    return parse_scheduler(name, options)
