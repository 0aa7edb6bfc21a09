"""Crop consistency: a slightly cropped validation image must get the same answer as the whole image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from trainables.data.rows import Row
from trainables.data.text import same_answer
from trainables.errors import UserError
from trainables.probes.metric import Metric, RowResults, hits
from trainables.probes.probe import Evidence, Probe, ProbeData
from trainables.probes.question import Question, ask_validation

MAX_ROWS = 8
SIDE = 0.94
JITTERS = ((0.0, 0.0, SIDE), (1.0 - SIDE, 1.0 - SIDE, SIDE), ((1.0 - SIDE) / 2, (1.0 - SIDE) / 2, SIDE))


def check_pictures(validation: Iterable[Row], sees: bool) -> None:
    """Refuse validation rows without any image if the base takes images (`sees`).

    Raises:
        UserError: no row has an image.
    """
    if sees and not any(row.images for row in validation):
        raise UserError(
            "validation must hold a row with an image, which crop consistency needs, but none has one",
            "add validation rows with `images`",
        )


def _rows(data: ProbeData) -> list[Row]:
    return [row for row in data.validation if row.images][:MAX_ROWS]


def _cropped(row: Row) -> list[Question]:
    return [
        Question(f"crop/{row.row_id}/{index}", row.prompt, row.images, crop, row.thinks)
        for index, crop in enumerate(JITTERS)
    ]


def _questions(data: ProbeData) -> Sequence[Question]:
    rows = _rows(data)
    return [ask_validation(row) for row in rows] + [question for row in rows for question in _cropped(row)]


def _score(data: ProbeData, evidence: Evidence) -> Mapping[str, float | RowResults]:
    same = {
        question.key: same_answer(evidence.answers[question.key], evidence.answers[ask_validation(row).key])
        for row in _rows(data)
        for question in _cropped(row)
    }
    return {"crop_consistency": hits(same)}


PROBE = Probe(
    name="crops",
    metrics=(Metric("crop_consistency", "higher", "fraction", "crops with the same answer as the whole image"),),
    questions=_questions,
    score=_score,
    rows=_rows,
)
