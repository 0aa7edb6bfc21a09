"""The commands that come after a pick: ask the finalists all rows, measure it on held-out rows, and ship it."""

from __future__ import annotations

import shlex

from analysis.candidates import Candidate, finalists_command, holdout_command
from analysis.conclusion import Conclusion
from analysis.decision.finalists import not_asked
from analysis.options import ConclusionOptions, storage_words
from analysis.placements import recorded

ASKED_AT_ONCE = 12  # candidates of one command; the next one names those that are left


def next_commands(found: Conclusion, asked: ConclusionOptions) -> list[str]:
    """Return the commands that a pick asks for, as a shell reads them.

    Finalists come before the holdout, because they can change the pick, and a holdout measures what is final: once it
    has measured the pick, only shipping is left.
    """
    words = [*_storage_words(found), *asked.store_words()]
    ship = [ship_command(asked)] if found.choice.picked else []
    holdout = found.info.holdout
    if found.choice.picked and holdout is not None and holdout.state == "measured":
        return ship
    if asking := [one for one in not_asked(found.choice.finalists) if _is_kept(one)]:
        return [finalists_command(asked.experiment, asking[:ASKED_AT_ONCE], words), *ship]
    if found.choice.picked and holdout is not None and holdout.state == "not measured":
        return [holdout_command(asked.experiment, [found.choice.picked.candidate], words), *ship]
    return ship


def ship_command(asked: ConclusionOptions) -> str:
    """Return the command that ships the pick."""
    return shlex.join(["analysis", "ship", "--experiment", asked.experiment, *asked.words(), "--out", "shipped"])


def _is_kept(candidate: Candidate) -> bool:
    """False when a seed keeps no adapter of this step, so that it cannot be asked anything more."""
    records = [recorded(one.trial) for one in candidate.evals]
    return all(one is None or one.adapter_at(candidate.step) is not None for one in records)


def _storage_words(found: Conclusion) -> list[str]:
    """Return the option that names the directory of the experiment's records, unless it is the default."""
    records = [record for trial in found.study.trials if (record := recorded(trial)) is not None]
    return storage_words(records[0].directory.parent.parent.parent) if records else []
