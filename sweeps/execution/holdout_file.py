"""The holdout of an experiment, in `holdout.json`: it may be added later, but never exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweeps.execution.options import Launch
from sweeps.planning.holdout import Holdout, check_not_replayed, gather_holdout, holdout_in
from sweeps.planning.mixes import replayed
from sweeps.planning.plan import Plan
from sweeps.planning.sources import Sources
from trainables.errors import UserError
from trainables.io.files import FileDamaged, read_json, write_json
from trainables.record import HOLDOUT_FILE


def planned_holdout(planned: Plan, launch: Launch) -> Holdout | None:
    """Return the holdout of a launch, checked and hashed, or else the one that the experiment keeps; None without one.

    Raises:
        UserError: a row is broken, or also in another file.
    """
    kept = holdout_of(launch.directory(planned.active.study))
    own_rows = launch.ood is not None and not launch.split_holdout
    if not kept or not _names_none(launch):
        kept = gather_holdout(launch.test, launch.ood_test, planned.sources, own_rows)
    if kept:
        check_not_replayed(kept, replayed(planned.specs))
    return kept


def holdout_of_stages(stages: Sequence[Sources], launch: Launch, kept: Holdout | None = None) -> Holdout | None:
    """Return the holdout of a staged study, which belongs to its last stage; no stage may read its rows.

    A launch that names no files has the one that the experiment keeps (`kept`).

    Raises:
        UserError: a row is broken, or also in a file of any stage.
    """
    from trainables.mini.datasets import is_generated

    if kept and _names_none(launch):
        return kept
    *before, last = stages
    own_rows = not launch.split_holdout and (launch.ood is not None or not is_generated(last.ood.path.parent))
    holdout = gather_holdout(launch.test, launch.ood_test, last, own_rows)
    if holdout is None:
        return None
    for sources in before:
        gather_holdout(holdout.test.path, holdout.ood_test.path, sources, True, launch.split_holdout)
    return holdout


def _names_none(launch: Launch) -> bool:
    return launch.test is None and launch.ood_test is None


def holdout_of(experiment: Path) -> Holdout | None:
    """Return the holdout of the experiment in a directory; None if it has none.

    Raises:
        FileDamaged: the file is not as it was written.
    """
    path = experiment / HOLDOUT_FILE
    try:
        return holdout_in(read_json(path)) if path.exists() else None
    except (KeyError, TypeError, ValueError):
        raise FileDamaged(
            f"{path}: it must name test and ood_test, but it does not", "restore it from a copy, or delete it"
        ) from None


def check_holdout(experiment: Path, holdout: Holdout | None) -> None:
    """Compare a holdout with that of the experiment, if both have one.

    Raises:
        UserError: they differ; names the file.
    """
    begun = holdout_of(experiment)
    if holdout is None or begun is None:
        return
    for flag, now, then in (("--test", holdout.test, begun.test), ("--ood-test", holdout.ood_test, begun.ood_test)):
        if now.sha256 != then.sha256:
            raise UserError(
                f"experiment `{experiment.name}` was begun with another {flag}: {then.path}, sha256 "
                f"{then.sha256[:12]}, but got {now.path}, {now.sha256[:12]}",
                f"pass the same file, or begin a new experiment with --experiment {experiment.name}-2",
            )


def keep_holdout(experiment: Path, holdout: Holdout | None) -> None:
    """Write the holdout, if there is one; raises the same as `check_holdout`."""
    check_holdout(experiment, holdout)
    if holdout is not None and holdout_of(experiment) is None:
        write_json(experiment / HOLDOUT_FILE, holdout.as_json())
