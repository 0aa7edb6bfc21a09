"""The command `analysis seeds`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from analysis.options import DEFAULT_LEVEL, STORE, ConclusionOptions, Fit, Generality, Level, TrackingUri
from analysis.printed_commands import run_printed, sync_command
from trainables.errors import UserError, quoted
from trainables.progress import working

if TYPE_CHECKING:
    from analysis.placements import PlacementRuns
    from analysis.seeds.advice import Advice

Form = Literal["table", "json"]
WIDTH_WITHOUT_TERMINAL = 80
MOST_TRIALS = 20


@dataclass(frozen=True)
class Advised:
    """An advice, the rows of each metric that decides, the command that follows it, and how many trials that runs.

    The command asks the finalists the rest of the rows, which trains nothing, as long as some are left; then it runs
    seeds. It is empty where the pick is settled, or where seeds cannot settle it.
    """

    advice: Advice
    rows: dict[str, int]
    command: tuple[str, ...]
    trials: int


def seeds(  # noqa: PLR0913, PLR0917 one function is the whole command line
    experiment: Annotated[str, typer.Option(help="MLflow experiment: the study's name.")],
    x: Generality = "",
    y: Fit = "",
    level: Level = DEFAULT_LEVEL,
    margin: Annotated[float, typer.Option(help="A gain in fit that is not worth another pick.")] = 0.05,
    accepted: Annotated[float, typer.Option(help="Probability of another pick that counts as settled.")] = 0.10,
    loop: Annotated[bool, typer.Option("--loop", help="Run the command until the pick is settled.")] = False,
    max_trials: Annotated[int, typer.Option(min=1, help="How many trials --loop may run.")] = MOST_TRIALS,
    form: Annotated[Form, typer.Option("--format", help="Format of the advice.")] = "table",
    tracking_uri: TrackingUri = STORE,
) -> None:
    """Say which arms deserve more seeds, or that rows limit the choice, and print the command that runs them."""
    from rich.console import Console

    from analysis.compare.command import check_margin

    check_margin(margin)
    if not 0 < accepted < 1:
        raise UserError(f"--accepted must be above 0 and below 1, but got {quoted(accepted)}", "--accepted 0.1")
    asked, spent = ConclusionOptions(experiment, tracking_uri, x, y, level=level), 0
    before: tuple[str, ...] = ()
    while True:
        with working(Console(stderr=True), f"reading {experiment}, and drawing again from its rows and seeds"):
            found = _advised(asked, margin, accepted)
        _print(found, form, accepted)
        if not loop or found.command in ((), before):  # what was run has left everything as it was
            return
        before = found.command
        if spent + found.trials > max_trials:
            left = max_trials - spent
            print(
                f"stopped: the next launch has {found.trials} trials, but --max-trials leaves {left}", file=sys.stderr
            )
            return
        run_printed(found.command)
        spent += found.trials


def _advised(asked: ConclusionOptions, margin: float, accepted: float) -> Advised:
    from analysis.decision.evidence import evidence
    from analysis.decision.pick import has_rows
    from analysis.read_conclusion import read_conclusion
    from analysis.report.next_commands import finalists_to_ask
    from analysis.seeds.advice import advise

    conclusion = read_conclusion(asked)
    choice, constraint = conclusion.choice, conclusion.constraint
    names = tuple(dict.fromkeys((choice.fit.name, choice.generality.name, *constraint.needs)))
    known = [one for one in choice.contenders if has_rows(one, names)]
    if not known:
        raise UserError(
            f"more seeds are judged from results by row and a baseline, but `{asked.experiment}` has none",
            f"copy them from the records: {sync_command(asked.experiment, asked.store_words())}; records of earlier "
            "versions hold none",
        )
    found = evidence(known, names, constraint)
    at = next((at for at, one in enumerate(known) if choice.picked and one is choice.picked.contender), None)
    advice = advise(found, at, choice.fit, constraint, margin, accepted)
    rows = {name: len(found.arrays[name].rows) for name in names}
    if asking := finalists_to_ask(conclusion, asked):
        return Advised(advice, rows, tuple(shlex.split(asking)), 0)
    placements = [one.placement for one in conclusion.info.results]
    return _with_command(advice, rows, placements, conclusion.study.command)


def _with_command(advice: Advice, rows: dict[str, int], placements: Sequence[PlacementRuns], launched: str) -> Advised:
    """Add the command, and how many trials it runs: those of every placement of the arms that it names."""
    from analysis.seeds.printed_command import more_seeds_command

    of_study = {one.label: one.arm for one in placements}
    arms = list(dict.fromkeys(of_study[one.arm] for one in advice.arms))
    if advice.limit in ("settled", "rows") or not arms:
        return Advised(advice, rows, (), 0)
    most = max(one.seeds for one in advice.arms)
    target = advice.seeds or most + 2
    new = sum(max(0, target - len(one.seed_runs)) for one in placements if one.arm in arms)
    return Advised(advice, rows, tuple(more_seeds_command(launched, arms, target)), new)


def _print(found: Advised, form: Form, accepted: float) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from analysis.probabilities import chance
    from analysis.seeds.advice import sentences

    lines = sentences(found.advice, found.rows, accepted)
    if form == "json":
        body = {**asdict(found.advice), "rows": found.rows, "command": list(found.command), "trials": found.trials,
                "conclusions": lines}  # fmt: skip
        print(json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False))
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)
    console.print(escape("\n".join(lines)), highlight=False)
    if found.advice.limit != "settled" and found.advice.arms:
        table = Table("arm", "seeds", "chance to decide", box=None, pad_edge=False, header_style="dim")
        for one in found.advice.arms:
            table.add_row(escape(one.arm), str(one.seeds), chance(one.chance))
        console.print()
        console.print(table)
    if found.command:
        does = f"{found.trials} trials" if found.trials else "the finalists answer the rest of the rows, no training"
        console.print(f"\nnext ({does}):")
        console.print(f"    {escape(shlex.join(found.command))}", soft_wrap=True, highlight=False)
