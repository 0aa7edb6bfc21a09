"""The rows of an out-of-distribution file about the pictures of a kit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.probes.kit.canvas import Drawing

CAPTION_PROMPT = "Describe this picture in one or two sentences."
CAPTIONS_PER_KIND = 6
TEXT_ROWS = (
    ("What is the capital of France? Answer in one word.", ["Paris"]),
    ("How many days does a week have? Answer with a number.", ["7", "seven"]),
    ("What is two plus three? Answer with a number.", ["5", "five"]),
    ("Which season follows spring? Answer in one word.", ["summer"]),
    ("Which colour do you get from blue and yellow paint? Answer in one word.", ["green"]),
    ("How many legs does a spider have? Answer with a number.", ["8", "eight"]),
    ("Wie viele Monate hat ein Jahr? Antworte mit einer Zahl.", ["12", "zwölf"]),
    ("Was ist das Gegenteil von heiß? Antworte mit einem Wort.", ["kalt"]),
    ("Quelle est la capitale de l'Italie ? Réponds en un mot.", ["Rome"]),
    ("¿Cuántos minutos tiene una hora? Responde con un número.", ["60", "sesenta"]),
    ("Какого цвета снег? Ответь одним словом.", ["белый", "белого"]),
    ("一年有几个季节？请只回答数字。", ["4", "四"]),
)


@dataclass(frozen=True)
class Task:
    """What the user's model is asked about each picture, the agreed refusal, and terms that it must not say."""

    prompt: str
    refusal: str
    system: str = ""
    forbid: tuple[str, ...] = ()


def rows_of(pictures: Sequence[tuple[str, Drawing]], task: Task) -> Iterator[dict[str, Any]]:
    """Yield rows about pictures, each given with its file.

    Every picture has a row of kind `irrelevant`. The first of each kind that show something have one of kind `caption`,
    with the truth as `expect`. Facts of count, colour and position are rows of kind `text` that show the picture.
    """
    captions: dict[str, int] = {}
    topics: Counter[str] = Counter()
    for number, (file, one) in enumerate(pictures):
        name = f"{one.kind}-{number:04d}"
        system = {"system": task.system} if task.system else {}
        forbid = {"forbid": list(task.forbid)} if task.forbid else {}
        yield {"id": f"{name}-task", "kind": "irrelevant", "group": one.kind, "images": [file], **system,
               "prompt": task.prompt, "expect": task.refusal, **forbid}  # fmt: skip
        if one.facts and captions.setdefault(one.kind, 0) < CAPTIONS_PER_KIND:
            captions[one.kind] += 1
            yield {"id": f"{name}-caption", "kind": "caption", "group": one.kind, "images": [file],
                   "prompt": CAPTION_PROMPT, "expect": one.caption}  # fmt: skip
        if one.facts:  # one of them, so that no picture weighs more than another; topics are balanced
            fact = min(one.facts, key=lambda each: topics[each.topic])
            topics[fact.topic] += 1
            yield {"id": f"{name}-{fact.topic}", "kind": "text", "group": fact.topic, "images": [file],
                   "prompt": fact.question, "accept": list(fact.accept)}  # fmt: skip
    for number, (prompt, accept) in enumerate(TEXT_ROWS):
        yield {"id": f"text-{number:02d}", "kind": "text", "group": "words", "prompt": prompt, "accept": accept}
