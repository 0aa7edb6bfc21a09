"""The command that runs more seeds of some arms: that of the newest launch, with other arms and seeds."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from trainables.errors import UserError

# options of the launch that choose arms, seeds or an action; all others stay
REPLACED = ("--only", "--seeds", "--winners")
STUDY_MODULES = tuple(
    f"sweeps.{name}"
    for name in ("commands", "continuation", "coverage", "narrow", "quantization", "response", "smoke", "stage4")
)
DROPPED = ("--recommended", "--resume", "--sync", "--dry-run")


def more_seeds_command(launch_command: str, arms: Sequence[str], seeds: int) -> list[str]:
    """Return the words of the launch's command with these arms and this number of seeds.

    Trials that have a result are not run again, so that only the new seeds are.

    Args:
        launch_command: what started the newest launch, as a shell reads it.
        arms: the names of the arms in the study.
        seeds: how many seeds each of them shall have.

    Raises:
        UserError: the launch was not started by the command line of a study.
    """
    words = shlex.split(launch_command)
    if words[:2] != ["python", "-m"] or len(words) < 3 or words[2] not in STUDY_MODULES:
        raise UserError(
            f"the newest launch must have been started by the command line of a study, but it was `{launch_command}`",
            'run it again with more seeds by hand; `sweeps.trial` takes them as --space "seeds=5"',
        )
    kept, skip = words[:3], False
    for word in words[3:]:
        name, equals, _ = word.partition("=")
        if skip or name in DROPPED:
            skip = False
        elif name in REPLACED:
            skip = not equals
        else:
            kept.append(word)
    return [*kept, "--only", ",".join(arms), "--seeds", str(seeds)]
