"""Kinds of rows and turns that are no examples for supervised fine-tuning, each refused by what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.errors import UserError, named, quoted


@dataclass(frozen=True)
class Kind:
    """A kind of row: what a row of this kind is, and what to do with it."""

    what: str
    hint: str


PREFERENCES = Kind(
    "makes this a row of preferences, but a row must hold the one answer to imitate",
    "write the chosen answer as the assistant's turn and leave the rejected one out",
)
RATED = Kind(
    "rates the answer (KTO), but every answer of a row is imitated",
    "keep the rows with a good answer, without the rating, and drop the rows with a bad one",
)
TOOLS = Kind(
    "makes this a row with tool calls, which are not supported",
    "drop the row, or write the calls and their results into the texts as the base's chat template writes them",
)
REASONING = Kind(
    "holds reasoning apart from the answer, which is not supported",
    "write it into the answer's text as `<think>\\n…\\n</think>\\n\\n` before the answer, or remove it",
)
MEDIA = Kind(
    "makes this a row with video or audio, which are not supported: a base sees images and reads text",
    "drop the row, or show frames of the video as images",
)
BOXES = Kind(
    "holds boxes apart from the text, which are not supported",
    "write the boxes into the texts, as the base's family writes them",
)
SETTINGS = Kind(
    "sets the chat template or the picture sizes for one row, which is not supported: they are the same for all rows",
    "remove it; pictures are sized by the base's preprocessor_config.json",
)

KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("chosen", "rejected", "preferred", "dispreferred"), PREFERENCES),
    **dict.fromkeys(("kto_tag", "desirable"), RATED),
    **dict.fromkeys(
        ("tools", "functions", "tool_calls", "function_call", "tool_call_id", "tool_use", "tool_result"), TOOLS
    ),
    **dict.fromkeys(("reasoning_content", "reasoning", "thinking", "thought", "thoughts", "redacted_thinking"),
                    REASONING),
    **dict.fromkeys(("videos", "video", "video_url", "audios", "audio", "audio_url", "input_audio"), MEDIA),
    **dict.fromkeys(("objects", "bbox", "bboxes"), BOXES),
    **dict.fromkeys(("chat_template_kwargs", "enable_thinking", "min_pixels", "max_pixels", "total_pixels", "fps",
                     "nframes", "resized_height", "resized_width", "video_start", "video_end"), SETTINGS),
}  # fmt: skip
TOOL_SPEAKERS = ("tool", "function", "observation", "function_call", "tool_call", "tool_response", "ipython")


def supported(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a row, a turn or a part without the empty values of unsupported kinds, which mean nothing.

    Raises:
        UserError: a value of an unsupported kind is not empty; names `where` and the key.
    """
    found = {}
    for key, value in given.items():
        kind = _kind_of(key, value)
        if kind is None:
            found[key] = value
        elif not isinstance(value, str | list | dict) or value:
            raise UserError(f"{where}: `{named(key)}` {kind.what}", kind.hint)
    return found


def check_speaker(speaker: Any, where: str) -> None:
    """Refuse a turn of a tool.

    Raises:
        UserError: names `where` and the speaker.
    """
    if isinstance(speaker, str) and speaker in TOOL_SPEAKERS:
        raise UserError(f"{where}: the speaker `{speaker}` {TOOLS.what}", TOOLS.hint)


def check_one_answer(given: Mapping[str, Any], key: str, where: str) -> None:
    """Refuse a list of texts where one answer must stand, as in rows of preferences of older tools.

    Raises:
        UserError: names `where` and the key.
    """
    value = given.get(key)
    if isinstance(value, list) and len(value) > 1 and all(isinstance(one, str) for one in value):
        raise UserError(f"{where}: `{key}` with {len(value)} answers {PREFERENCES.what} ({quoted(value)})",
                        PREFERENCES.hint)  # fmt: skip


def _kind_of(key: str, value: Any) -> Kind | None:
    if key == "label" and isinstance(value, bool | int | float):
        return RATED
    return PREFERENCES if key.startswith(("rejected_", "chosen_")) else KINDS.get(key)
