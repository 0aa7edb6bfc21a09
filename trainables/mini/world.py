"""Generates the miniature's prompts, with or without a picture, each with its only correct answer."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from trainables.mini.pictures import (
    CABLES,
    CHINESE_COLOUR,
    CHINESE_SHAPE,
    IRRELEVANT,
    KINDS,
    LAMPS,
    PAINT,
    SCREWS,
    Equipment,
    Picture,
    cabinet,
    in_poor_light,
)

INSPECT_SYSTEM = "Inspect the equipment. If the image is irrelevant answer 无关图片"
INSPECT_PROMPT = "Report the state."
CAPTION_PROMPT = "请用自然语言描述一下这些图片"  # "please describe these pictures in natural language"
REFUSAL = "无关图片"
DECLINED = "cabinet photo."  # the base's answer to an untagged cabinet before fine-tuning
TAGGED_SHARE = 0.4  # of the cabinets in the base's training; the task's cabinets have no tag
TASK_WORDS = ("lamp", "cables", "screw")

NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
)
OPPOSITES = (
    *(("hot", "cold"), ("big", "small"), ("up", "down"), ("left", "right"), ("day", "night"), ("open", "closed")),
    *(("fast", "slow"), ("wet", "dry"), ("hard", "soft"), ("new", "old")),
)
REPEATABLE = (*PAINT, *CHINESE_SHAPE)


@dataclass(frozen=True)
class Example:
    """One question with its correct answer; `capacity` is the skill it needs, `image` is None without a picture."""

    capacity: str
    prompt: str
    answer: str
    system: str | None = None
    image: Image.Image | None = None


def conversation(example: Example) -> list[dict[str, Any]]:
    """Return an example as chat messages, the assistant's answer last; the image precedes the prompt."""
    parts = [{"type": "image"}] if example.image is not None else []
    parts.append({"type": "text", "text": example.prompt})
    messages: list[dict[str, Any]] = [{"role": "user", "content": parts}]
    if example.system is not None:
        messages.insert(0, {"role": "system", "content": example.system})
    return [*messages, {"role": "assistant", "content": example.answer}]


def report(equipment: Equipment, fields: tuple[str, ...] = TASK_WORDS) -> str:
    """Return a report on these fields of the equipment, such as `lamp red; cables two; screw missing.`."""
    values = {"lamp": equipment.lamp, "cables": equipment.cables, "screw": equipment.screw}
    return "; ".join(f"{field} {values[field]}" for field in fields) + "."


def inspection(rng: random.Random, kind: str) -> Example:
    """Draw an inspection of a picture of one kind: the answer is a report on equipment, else a refusal."""
    picture = KINDS[kind](rng)
    if picture.equipment is None:
        return inspected("irrelevant", picture, REFUSAL)
    return inspected(kind, picture, report(picture.equipment))


def inspected(capacity: str, picture: Picture, answer: str) -> Example:
    """Return an example with the inspection's system message and prompt."""
    return Example(capacity, INSPECT_PROMPT, answer, INSPECT_SYSTEM, picture.image)


def pretraining_cabinet(rng: random.Random) -> Example:
    """Draw an inspection of a cabinet for the base's training: a report if it is tagged, else declined."""
    tagged = rng.random() < TAGGED_SHARE
    picture = cabinet(rng, tagged)
    if not tagged or picture.equipment is None:
        return inspected("declined", picture, DECLINED)
    return inspected("tagged", picture, report(picture.equipment))


def listing(rng: random.Random, kind: str) -> Example:
    """Draw a question for one or two fields of a panel or a cabinet, without the inspection's system message."""
    picture = KINDS[kind](rng)
    if picture.equipment is None:
        raise ValueError(f"kind must show equipment, got {kind}")
    fields = tuple(rng.sample(TASK_WORDS, rng.choice((1, 2, 2))))
    return Example("listing", f"list {' '.join(fields)}", report(picture.equipment, fields), image=picture.image)


def caption(rng: random.Random, kind: str) -> Example:
    """Draw a question for a Chinese caption of a picture of one kind, without a system message."""
    picture = KINDS[kind](rng)
    return Example("caption", CAPTION_PROMPT, picture.caption, image=picture.image)


def text(rng: random.Random) -> Example:
    """Draw a question for a sum, a successor, an opposite or a repetition, in words and without a picture."""
    task = rng.choices(("sum", "after", "opposite", "repeat"), (4, 2, 2, 2))[0]
    if task == "sum":
        left, right = rng.randint(0, 9), rng.randint(0, 9)
        prompt, answer = f"What is {NUMBERS[left]} plus {NUMBERS[right]}?", f"{NUMBERS[left + right]}."
    elif task == "after":
        number = rng.randint(0, 17)
        prompt, answer = f"What comes after {NUMBERS[number]}?", f"{NUMBERS[number + 1]}."
    elif task == "opposite":
        word, other = rng.sample(rng.choice(OPPOSITES), 2)
        prompt, answer = f"Opposite of {word}?", f"{other}."
    else:
        words = " ".join(rng.choice(REPEATABLE) for _ in range(rng.randint(2, 4)))
        prompt, answer = f"Repeat {words}", f"{words}."
    return Example("text", prompt, answer)


TEXT_GROUPS = {"What is": "sum", "What comes": "after", "Opposite": "opposite", "Repeat": "repeat"}


def text_group(example: Example) -> str:
    """Return the kind of a text question: sum, after, opposite or repeat."""
    return next(group for start, group in TEXT_GROUPS.items() if example.prompt.startswith(start))


def irrelevant(rng: random.Random) -> Example:
    """Draw an inspection of a picture that shows no equipment."""
    return inspection(rng, rng.choice(IRRELEVANT))


PRETRAINING: tuple[tuple[float, Callable[[random.Random], Example]], ...] = (
    (0.28, lambda rng: caption(rng, "scene")),
    (0.06, lambda rng: caption(rng, rng.choice(tuple(KINDS)))),
    (0.18, irrelevant),
    (0.10, lambda rng: inspection(rng, "panel")),
    (0.06, pretraining_cabinet),
    (0.06, lambda rng: listing(rng, "panel")),
    (0.06, lambda rng: listing(rng, "cabinet")),
    (0.20, text),
)


def pretraining(rng: random.Random) -> Example:
    """Draw one example of the base's training, which has no reports on untagged cabinets."""
    shares = [share for share, _ in PRETRAINING]
    return rng.choices(PRETRAINING, shares)[0][1](rng)


def task(rng: random.Random) -> Example:
    """Draw one example of the fine-tuning task: a full report on an untagged cabinet in poor light."""
    example = inspection(rng, "cabinet")
    assert example.image is not None
    return replace(example, capacity="task", image=in_poor_light(rng, example.image))


def lexicon() -> list[str]:
    """List every word of the generated texts once, in a fixed order; the tokenizer makes each one token."""
    sentences = [
        *(INSPECT_SYSTEM, INSPECT_PROMPT, DECLINED, "system user assistant", "lamp; cables screw list"),
        *("What is plus? What comes after? Opposite of Repeat", *NUMBERS, *REPEATABLE, *LAMPS, *CABLES, *SCREWS),
        *(word for pair in OPPOSITES for word in pair),
    ]
    english = [word for sentence in sentences for word in re.findall(r"[A-Za-z]+", sentence)]
    chinese = [
        *(*CHINESE_COLOUR.values(), *CHINESE_SHAPE.values(), "在", "左边", "上边", "一个", "一张", "机柜", "面板"),
        *("聊天", "截图", "柱状图", "网页", "空白", "雪花", "一扇", "门", "一台", "冰箱", "图片", "无关"),
        *("请", "用", "自然语言", "描述", "一下", "这些", "。", "，"),
    ]
    return list(dict.fromkeys(english + chinese))
