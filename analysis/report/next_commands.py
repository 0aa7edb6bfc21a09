"""The commands that come after a pick: ask the finalists all rows, measure it on held-out rows, and ship it."""

from __future__ import annotations

import shlex
import sys

from analysis.candidates import Candidate, finalists_command, holdout_command
from analysis.conclusion import Conclusion
from analysis.decision.finalists import not_asked
from analysis.options import ConclusionOptions, storage_words
from analysis.placements import recorded
from analysis.printed_commands import run_printed
from analysis.read_conclusion import read_conclusion
from trainables.typed import typed

ASKED_AT_ONCE = 12  # candidates of one command; the next one names those that are left


def next_commands(found: Conclusion, asked: ConclusionOptions) -> list[str]:
    """Return the commands that a pick asks for, as a shell reads them.

    Finalists come before the holdout, because they can change the pick, and a holdout measures what is final: once it
    has measured the pick, only shipping is left.
    """
    ship = [ship_command(asked)] if found.choice.picked else []
    if command := finalists_to_ask(found, asked):
        return [command, *ship]
    holdout = found.info.holdout
    if found.choice.picked and holdout is not None and holdout.state == "not measured":
        return [holdout_command(asked.experiment, [found.choice.picked.candidate], _words(found, asked)), *ship]
    return ship


def finalists_to_ask(found: Conclusion, asked: ConclusionOptions) -> str:
    """Return the command that asks the finalists all rows; empty where none is left, or a holdout has measured."""
    holdout = found.info.holdout
    if found.choice.picked and holdout is not None and holdout.state == "measured":
        return ""
    asking = [one for one in not_asked(found.choice.finalists) if _is_kept(one)]
    return finalists_command(asked.experiment, asking[:ASKED_AT_ONCE], _words(found, asked)) if asking else ""


def with_finalists_asked(found: Conclusion, asked: ConclusionOptions) -> Conclusion:
    """Run that command until no finalist is left, and return what is concluded then.

    Raises:
        typer.Exit: a finalist could not be asked; the code is that of the command.
    """
    ran: set[str] = set()
    while (command := finalists_to_ask(found, asked)) and command not in ran:
        ran.add(command)
        print(f"asking the finalists: {command}", file=sys.stderr)
        run_printed(shlex.split(command))
        found = read_conclusion(asked)
    return found


def _words(found: Conclusion, asked: ConclusionOptions) -> list[str]:
    return [*_storage_words(found), *asked.store_words()]


def ship_command(asked: ConclusionOptions) -> str:
    """Return the command that ships the pick."""
    return typed("ship", "--experiment", asked.experiment, *asked.words(), "--out", "shipped")


def _is_kept(candidate: Candidate) -> bool:
    """False when a seed keeps no adapter of this step, so that it cannot be asked anything more."""
    records = [recorded(one.trial) for one in candidate.evals]
    return all(one is None or one.adapter_at(candidate.step) is not None for one in records)


def _storage_words(found: Conclusion) -> list[str]:
    """Return the option that names the directory of the experiment's records, unless it is the default."""
    records = [record for trial in found.study.trials if (record := recorded(trial)) is not None]
    return storage_words(records[0].home.parent.parent.parent) if records else []
