"""The command that runs more seeds of some arms: that of the newest launch, with other arms and seeds."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from trainables.errors import UserError, named
from trainables.typed import typed, typed_words

# options of the launch that choose arms, seeds or an action, or whose value no launch keeps; all others stay
REPLACED = ("--only", "--seeds", "--winners", "--notify")
DROPPED = ("--recommended", "--resume", "--sync", "--dry-run")
# what runs trials and has neither --only nor --seeds
WITHOUT_SEEDS = ("curriculum", "doctor", "finalists", "holdout", "import", "rescale", "search", "trial", "unfreeze")
CALLS = (["footprint"], ["python", "-m", "sweeps"])


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
    study, words = _study_and_words(launch_command)
    if not study or study in WITHOUT_SEEDS:
        raise UserError(
            "more seeds are asked of a study with --seeds, but the newest launch was "
            f"{f'`{named(launch_command)}`' if launch_command else 'not started by a command'}",
            f"run it again with more seeds by hand; `{typed('import', 'CONFIG', '--space', 'seeds=5')}` takes them so",
        )
    kept: list[str] = []
    skip = False
    for word in words:
        name, equals, _ = word.partition("=")
        if skip or name in DROPPED:
            skip = False
        elif name in REPLACED:
            skip = not equals
        else:
            kept.append(word)
    return typed_words(study, *kept, "--only", ",".join(arms), "--seeds", str(seeds))


def _study_and_words(launch_command: str) -> tuple[str, list[str]]:
    """Return the study that a launch ran, and its words; empty if it was started in another way."""
    words = shlex.split(launch_command)
    if words[:2] == ["python", "-m"] and len(words) > 2 and words[2].startswith("sweeps."):
        return words[2].removeprefix("sweeps."), words[3:]
    for call in CALLS:
        if words[: len(call)] == call and len(words) > len(call):
            return words[len(call)], words[len(call) + 1 :]
    return "", []
