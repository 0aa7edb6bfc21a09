"""Mixes: general rows that are replayed among the task rows, and the trials with each of them.

`--mix general.jsonl:0.1` makes one row in ten of each pass a replay row. Several mixes are an axis:
`--mix general.jsonl:0,0.1,0.25`, or `--mix a.jsonl:0.1,b.jsonl:0.1`; a ratio of 0 is without replay.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sweeps.planning.data_quality import FileQuality
from sweeps.planning.sources import Sources
from sweeps.planning.space import MOST_TRIALS, Axes, Measure, expand
from sweeps.study import Study
from trainables.data.duplicates import check_disjoint, digest_of
from trainables.data.joined_files import absolute
from trainables.data.picture_places import check_places
from trainables.data.rows import check_file, read_rows, read_validation
from trainables.data_files import rows_of_a_pass
from trainables.errors import UserError, items, named
from trainables.spec import FORMAT, Format, Source, TrialSpec

EXAMPLE = "general.jsonl:0.1"
NOT_IN_NAMES = re.compile(r"[^\w.]+")


@dataclass(frozen=True)
class AskedMix:
    """A mix as the command line asks for it: files of rows, and their share of the rows trained on."""

    path: Path
    ratio: float


@dataclass(frozen=True)
class Mix:
    """A mix with checked rows; `source` is None where no row is replayed."""

    source: Source | None
    ratio: float
    rows: int = 0


def parse_mixes(text: str) -> tuple[AskedMix, ...]:
    """Read `--mix`: FILE:RATIO, further ratios of the file, further files; names before a ratio are joined files.

    Raises:
        UserError: a ratio is missing, is not in [0, 1), or a mix is repeated.
    """
    found: list[AskedMix] = []
    names: list[str] = []
    for word in items(text, "--mix", EXAMPLE):
        name, _, ratio = word.rpartition(":")
        if not name and not names and found and (further := _number(word)) is not None:
            found.append(AskedMix(found[-1].path, _checked_ratio(further, word)))
        elif name and (given := _number(ratio)) is not None:
            found.append(AskedMix(Path(",".join([*names, name])), _checked_ratio(given, word)))
            names = []
        else:
            names.append(word)
    if names:
        example = EXAMPLE if _number(names[-1]) is not None else f"{names[-1]}:0.1"
        raise UserError(f"--mix must be FILE:RATIO, but got `{named(names[-1])}`", f"--mix {example}")
    distinct = Counter((str(one.path) if one.ratio else "", one.ratio) for one in found)
    if (twice := distinct.most_common(1)) and twice[0][1] > 1:
        raise UserError(f"--mix must name every mix once, but got `{named(text)}`", f"--mix {EXAMPLE}")
    return tuple(found)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _checked_ratio(ratio: float, word: str) -> float:
    if not 0.0 <= ratio < 1.0:
        raise UserError(
            f"--mix: a ratio must be at least 0 and below 1, but got `{named(word)}`",
            f"0.1 makes one row in ten a replay row: --mix {EXAMPLE}",
        )
    return ratio


def read_mixes(asked: Sequence[AskedMix], sources: Sources) -> tuple[Mix, ...]:
    """Read and check the rows of mixes, and hash their files; files of a ratio of 0 are checked too.

    Raises:
        UserError: a file is missing or empty, a row is broken, or a row is also in validation.
    """
    validation = read_validation(sources.validation.path) if asked else []
    known: dict[Path, Mix] = {}
    for path in dict.fromkeys(absolute(one.path) for one in asked):
        check_file(path)
        rows = read_rows(path)
        check_places(path, rows)
        check_disjoint(rows, validation, sources.validation.path, ("validation", "replay"))
        digest = digest_of(path, (image for row in rows for image in row.images))
        known[path] = Mix(Source(path=path, sha256=digest), 1.0, len(rows))
    return tuple(replace(known[absolute(one.path)], ratio=one.ratio) if one.ratio else Mix(None, 0.0) for one in asked)


def expand_mixes(
    study: Study,
    axes: Axes,
    sources: Sources,
    mixes: Sequence[Mix],
    spec_format: Format = FORMAT,
    measure: Measure | None = None,
) -> list[TrialSpec]:
    """Return the trials of a launch as `expand` does, with each of the mixes; a budget in epochs counts task rows.

    Raises:
        UserError: as `expand`.
    """
    distinct: dict[str, TrialSpec] = {}
    for mix in mixes or (Mix(None, 0.0),):
        a_pass = replace(sources, train_rows=rows_of_a_pass(sources.train_rows, mix.ratio))
        for spec in expand(study, axes, a_pass, spec_format, measure):
            own = spec if spec.placement.is_baseline else _mixed(spec, mix, mixes)
            distinct.setdefault(own.trial_id, own)
    if len(distinct) > MOST_TRIALS:
        raise UserError(f"a launch must have at most {MOST_TRIALS:,} trials, but {len(mixes)} mixes make "
                        f"{len(distinct):,}", "vary less at once")  # fmt: skip
    return sorted(distinct.values(), key=lambda one: not one.placement.is_baseline)


def _mixed(spec: TrialSpec, mix: Mix, mixes: Sequence[Mix]) -> TrialSpec:
    name = f"{spec.name}-{_name(mix, mixes)}" if len(mixes) > 1 else spec.name
    return spec.model_copy(update={"name": name, "replay": mix.source, "replay_ratio": mix.ratio})


def _name(mix: Mix, mixes: Sequence[Mix]) -> str:
    files = {one.source.sha256: one.source for one in mixes if one.source}
    shown = f"mix{mix.ratio:g}"
    if mix.source is None or len(files) == 1:
        return shown
    stems = Counter(one.path.stem for one in files.values())
    apart = mix.source.sha256[:4] if stems[mix.source.path.stem] > 1 else ""
    return f"{shown}-{NOT_IN_NAMES.sub('_', mix.source.path.stem)}{apart}"


def replayed(specs: Sequence[TrialSpec]) -> tuple[Source, ...]:
    """Return the distinct files of replay rows of trials."""
    return tuple({one.replay.sha256: one.replay for one in specs if one.replay}.values())


def mix_text(specs: Sequence[TrialSpec], data: Mapping[str, FileQuality]) -> str:
    """Return the sentences of a plan on replay, with the statistics of its data; empty if no row is replayed."""
    mixed = [one for one in specs if one.replay]
    if not mixed:
        return ""
    ratios = ", ".join(f"{ratio:g}" for ratio in sorted({one.replay_ratio for one in mixed}))
    files, rows = ", ".join(one.path.name for one in replayed(mixed)), data["replay"].rows
    return (
        f"Replay: a share of {ratios} of the rows trained on is of {files} ({rows:,} rows), spread evenly among the "
        "task rows, whose order stays. Coverage counts task rows: with --epochs steps grow by the share, with --steps "
        "fewer task rows are seen."
    )
