"""The base and the data that a launch names, with a holdout split off its rows where it asks for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sweeps.execution.options import Launch
from sweeps.planning.sources import Begun, Sources, gather
from sweeps.planning.split import SplitFiles, split_off
from sweeps.study import Study


def gather_for(study: Study, launch: Launch, data_directory: Path, begun: Begun) -> Sources:
    """Find and check the base and the data of a launch, as `gather` does; `--split-holdout` splits rows off first.

    Raises:
        UserError: as `gather` and `split_off`.
    """
    files, split = evals_rows(launch, (launch.train, launch.validation, launch.ood), data_directory)
    return told(gather(launch.base, *files, data_directory, study.world, launch.drop, begun), split)


def evals_rows(
    launch: Launch, files: Sequence[Path | None], data_directory: Path
) -> tuple[tuple[Path | None, Path | None, Path | None], SplitFiles | None]:
    """Return train, validation and out-of-distribution rows of evals, and what was split off the last two.

    Raises:
        UserError: as `split_off`.
    """
    train, validation, ood = files
    if not launch.split_holdout:
        return (train, validation, ood), None
    split = split_off(validation, ood, data_directory.parent / "holdout")
    return (train, split.validation, split.ood), split


def told(sources: Sources, split: SplitFiles | None) -> Sources:
    """Return sources whose summary says what was split off."""
    if split is None:
        return sources
    return replace(sources, dropped="\n".join(filter(None, (sources.dropped, split.summary))))
