"""Finds and checks the base and the data of a study: the embedded miniature or the user's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.planning.hashing import hashed_base
from sweeps.planning.hub_download import downloaded_base
from sweeps.study import World
from trainables.data.duplicates import check_disjoint, digest_of
from trainables.data.filtered_file import write_filtered
from trainables.data.filters import parse_filters
from trainables.data.joined_files import absolute
from trainables.data.ood import OodRow, needed_kinds, read_ood
from trainables.data.picture_places import check_places
from trainables.data.rows import Row, check_file, read_rows, read_validation
from trainables.data.template_date import shows_date
from trainables.errors import UserError
from trainables.metrics import METRICS, reported
from trainables.model.families import family_of
from trainables.model.stored_base import read_base
from trainables.probes.crops import check_pictures
from trainables.probes.probe import ProbeData
from trainables.progress import doing
from trainables.spec import FORMAT, RESERVE_FORMAT, Format, Source, TrialSpec
from trainables.typed import typed

if TYPE_CHECKING:
    from trainables.mini.datasets import Files


@dataclass(frozen=True)
class Begun:
    """What an experiment keeps from its first launch: the format of its specs, and the date that templates show."""

    format: Format = FORMAT
    template_date: date | None = None


@dataclass(frozen=True)
class Sources:
    """The base and the data of a study, identified by content; `train_rows` is the number of training rows.

    `dropped` is a summary of the rows that filters removed. `sees` is True when the base accepts pictures. `reported`
    names the metrics that records of its trials can hold. `template_date` is the date that the base's chat template
    shows in all trials, None if it shows none. `ood_rows` are the numbers of out-of-distribution rows by kind.
    """

    base: Source
    train: Source
    validation: Source
    ood: Source
    train_rows: int
    is_miniature: bool
    dropped: str = ""
    sees: bool = True
    reported: frozenset[str] = frozenset(METRICS)
    template_date: date | None = None
    ood_rows: tuple[tuple[str, int], ...] = ()

    @property
    def files(self) -> tuple[Source, ...]:
        """Return the base and the data files."""
        return self.base, self.train, self.validation, self.ood

    def as_settings(self) -> dict[str, Any]:
        """Return the sources as settings of a trial."""
        files = {"base": self.base, "train": self.train, "validation": self.validation, "ood": self.ood}
        return {**files, "template_date": self.template_date}


def gather(  # noqa: PLR0913, PLR0917 what the command lines share
    base: str | None, train: Path | None, validation: Path | None, ood: Path | None, mini: Path,
    world: World = "pictures", drop: str = "", begun: Begun | None = None,
) -> Sources:  # fmt: skip
    """Find the base and the data, check every row, and hash the files.

    Args:
        mini: directory for the miniature's rows, written when no data is given; text rows go to `<mini>-text`.
        world: the miniature to use when no base or no data is given.
        drop: filters of the training rows; the remaining rows are written to `filtered` next to `mini`.
        begun: what the experiment keeps from its first launch; None for a new one.

    Raises:
        UserError: something is missing or unreadable, or a row is in both train and validation.
    """
    given = (train, validation, ood)
    if base is not None and None in given:
        raise UserError(
            "a base of your own needs data of your own, but --train, --val and --ood are not all given",
            f"`{typed('mini', 'show', '--out', 'DIR')}` writes an example of each file",
        )
    if None in given and any(given):
        raise UserError("--train, --val and --ood must be given together, but one or two of them are missing")
    if train is None or validation is None or ood is None:
        files = _miniature_rows(mini, world, begun or Begun())
        train, validation, ood = files.train, files.validation, files.ood
    for path in (train, validation, ood):
        check_file(path)  # before a base is looked up on the hub
    dropped = ""
    if drop:
        left = write_filtered(absolute(train), parse_filters(drop), mini.resolve().parent / "filtered")
        train, dropped = left.path, left.summary
    found = _checked(locate_base(base, world), absolute(train), absolute(validation), absolute(ood), begun or Begun(),
                     _written_here(mini))  # fmt: skip
    return replace(found, dropped=dropped, is_miniature=base is None)


def _checked(base: Path, train: Path, validation: Path, ood: Path, begun: Begun, own: Sequence[Path]) -> Sources:
    sees = read_base(base).family.sees  # before the rows are read and the weights hashed
    with doing("reading the rows"):
        train_rows, validation_rows = read_rows(train), read_validation(validation)
        ood_rows = read_ood(ood, needed_kinds(sees))
    for path, rows in ((train, train_rows), (validation, validation_rows), (ood, ood_rows)):
        if not any(map(path.is_relative_to, own)):  # whose pictures were checked in the file that they are from
            check_places(path, rows)
    check_pictures(validation_rows, sees)
    check_disjoint(train_rows, validation_rows, validation)

    def source(path: Path, rows: list[Any]) -> Source:
        return Source(path=path, sha256=digest_of(path, (image for row in rows for image in row.images)))

    return Sources(
        base=hashed_base(base, begun.format),
        train=source(train, train_rows),
        validation=source(validation, validation_rows),
        ood=source(ood, ood_rows),
        train_rows=len(train_rows),
        is_miniature=False,
        sees=sees,
        reported=_reported(validation_rows, ood_rows),
        template_date=_template_date(base, begun),
        ood_rows=_by_kind(ood_rows),
    )


def _written_here(mini: Path) -> list[Path]:
    return [mini.resolve().parent / name for name in ("filtered", "holdout", "with_system_turn")]


def _template_date(base: Path, begun: Begun) -> date | None:
    if begun.format == 1 or not shows_date(base):
        return None
    return begun.template_date or date.today()  # the local date, as transformers shows it


def reported_by(spec: TrialSpec) -> frozenset[str]:
    """Return the names of the metrics that the record of a trial can hold, from the files it reads."""
    kinds = needed_kinds(family_of(spec.base.path)[0].sees)
    return _reported(read_validation(spec.validation.path), read_ood(spec.ood.path, kinds))


def ood_rows_of(spec: TrialSpec) -> tuple[tuple[str, int], ...]:
    """Return the numbers of out-of-distribution rows by kind, from the file that a trial reads."""
    return _by_kind(read_ood(spec.ood.path, needed_kinds(family_of(spec.base.path)[0].sees)))


def _by_kind(rows: Sequence[OodRow]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(row.kind for row in rows).items()))


def _reported(validation: list[Row], ood: list[OodRow]) -> frozenset[str]:
    return reported(ProbeData(tuple(validation), (), tuple(ood), frozenset()))


def _miniature_rows(directory: Path, world: World, begun: Begun) -> Files:
    from trainables.mini import datasets
    from trainables.mini.text import datasets as commands

    made = commands if world == "text" else datasets
    target = directory.with_name(f"{directory.name}-text") if world == "text" else directory
    latest = datasets.current(target, made.VERSION)
    if begun.format < RESERVE_FORMAT and latest != target:
        return datasets.files_in(target)  # the rows that the experiment began with
    return made.write(latest, 0)


def locate_base(base: str | None, world: World) -> Path:
    """Return the directory of a base: the miniature of a world, a directory, or a model of the hub, downloaded.

    Raises:
        UserError: the hub does not have it, or cannot be reached.
    """
    if base is None:
        from trainables import mini
        from trainables.mini import text

        return text.BASE_DIRECTORY if world == "text" else mini.BASE_DIRECTORY
    path = Path(base).expanduser()
    if path.exists() or path.is_absolute() or base.count("/") != 1:
        return path.resolve()
    return downloaded_base(base)
