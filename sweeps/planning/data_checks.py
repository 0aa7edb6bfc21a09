"""Preflight checks of the rows: encoding, labels, repetition and leakage."""

from __future__ import annotations

from collections.abc import Iterator

from sweeps.planning.data_quality import (
    FileQuality,
    Rows,
    quality_of,
    with_pictures_of,
    with_questions_of,
    without_end,
    without_labels,
)
from sweeps.planning.finding import PreflightFinding, named_rows
from sweeps.study import PreflightLimits
from trainables.data.scan import Scan


# -------------------------------------------------------------------- the data
def check_data(scan: Scan, limits: PreflightLimits) -> Iterator[PreflightFinding]:
    """Yield the findings about the rows, which do not depend on any trial's settings."""
    qualities = quality_of(scan)
    for name, quality in qualities.items():
        yield from _encoding(name, quality, scan)
        yield from _repeated(name, quality, limits)
    yield from _labels(scan, limits)
    yield from _answers(qualities["train"], limits)
    for name, rows in (("validation", scan.validation), ("ood", scan.ood)):
        for trained, learned in (("train", scan.train), ("replay", scan.replay)):
            yield from _leaked("picture", name, trained, with_pictures_of(rows, learned), limits)
            yield from _leaked("question", name, trained, with_questions_of(rows, learned), limits)


def _encoding(name: str, quality: FileQuality, scan: Scan) -> Iterator[PreflightFinding]:
    broken = quality.unencodable
    if broken.count:
        problem = next(row.problem for row in getattr(scan, name) if row.problem)
        yield PreflightFinding(
            "refuse",
            "encoding",
            f"every row of {name} must be encodable, but {named_rows(broken)} are not; the first: {problem}",
            "repair or drop them; a trial fails when it reads one",
        )


def _labels(scan: Scan, limits: PreflightLimits) -> Iterator[PreflightFinding]:
    for name in ("train", "validation", "replay"):
        rows = without_labels(getattr(scan, name))
        if rows.count:
            yield PreflightFinding(
                "refuse" if rows.share >= limits.refuse_above_unlabelled_share else "warn",
                "labels",
                f"the labels of a row of {name} must cover its answer and nothing else, but those of "
                f"{named_rows(rows)} cover no token of the answer, or every token",
                "look at how the chat template renders these rows",
            )
        endless = without_end(getattr(scan, name))
        if endless.count:
            yield PreflightFinding(
                "warn",
                "turn_end",
                f"an answer of {name} should be supervised through the token that ends it, but the chat template marks "
                f"no such token in {named_rows(endless)}",
                "the model does not learn to end its answers; let {% generation %} in the template include the token",
            )


def _repeated(name: str, quality: FileQuality, limits: PreflightLimits) -> Iterator[PreflightFinding]:
    if quality.repeated.share > limits.warn_above_repeated_share:
        yield PreflightFinding(
            "warn",
            "repeated_rows",
            f"at most {limits.warn_above_repeated_share:.0%} of {name} should repeat an earlier row, "
            f"but {named_rows(quality.repeated)} do",
            "drop them, or accept that repeated rows weigh more than the others",
        )


def _answers(train: FileQuality, limits: PreflightLimits) -> Iterator[PreflightFinding]:
    if train.contradictory.share > limits.warn_above_contradictory_share:
        yield PreflightFinding(
            "warn",
            "contradictions",
            "the same question about the same pictures should have the same answer, but "
            f"{named_rows(train.contradictory)} of train differ from the answer of an earlier row",
            "read these rows; if several answers are right, exact match cannot measure them",
        )
    if train.answers == 1 and train.rows > 1:
        yield PreflightFinding(
            "warn",
            "one_answer",
            f"training rows should have different answers, but all {train.rows:,} have the same one",
            "a model can learn it without reading the question",
        )


def _leaked(
    what: str, name: str, trained: str, rows: Rows, limits: PreflightLimits
) -> Iterator[PreflightFinding]:  # fmt: skip
    if rows.count:
        yield PreflightFinding(
            "refuse" if rows.share > limits.refuse_above_leaked_share else "warn",
            f"{what}_leak",
            f"a {what} of {name} must not also be in {trained}, but in {named_rows(rows)} it is",
            "keep these rows in one of the files only; an eval on training rows measures memorization",
        )
