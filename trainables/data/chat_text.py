"""Splits a conversation that a chat template rendered as one text back into its turns.

An answer can be scored only if it is separate from its prompt; some validation files hold rendered texts only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from trainables.data.formats import ROLES, Message

# one turn in each template: role, text, end; the whole text must consist of turns
TURNS = (
    re.compile(r"<\|im_start\|>(?P<role>\w+)\n(?P<text>.*?)<\|im_end\|>\s*", re.DOTALL),
    re.compile(r"<\|start_header_id\|>(?P<role>\w+)<\|end_header_id\|>\n\n(?P<text>.*?)<\|eot_id\|>\s*", re.DOTALL),
    re.compile(r"<start_of_turn>(?P<role>\w+)\n(?P<text>.*?)<end_of_turn>\s*", re.DOTALL),
)
INSTRUCTION = re.compile(r"\s*\[INST\](?P<user>.*?)\[/INST\](?P<assistant>.*?)\s*", re.DOTALL)
HEADINGS = re.compile(
    r"(?:Below is an instruction[^#]*)?### Instruction:\n(?P<user>.*?)\n+(?:### Input:\n(?P<input>.*?)\n+)?"
    r"### Response:\n(?P<assistant>.*)",
    re.DOTALL,
)
OTHER_NAMES = {"model": "assistant", "human": "user"}
EDGES = re.compile(r"^(?:<s>|<bos>|<\|begin_of_text\|>)?\s*|\s*(?:</s>|<eos>|<\|endoftext\|>|<\|end_of_text\|>)?\s*$")


def turns_of(text: str) -> tuple[Message, ...] | None:
    """Return the turns of a text in ChatML, Llama 3, Gemma, Mistral or Alpaca form.

    Returns None if the text has none of these forms, or if its last turn is not an answer that can be scored.
    """
    bare = EDGES.sub("", text)
    for turn in TURNS:
        found = list(turn.finditer(bare))
        if found and "".join(match.group(0) for match in found) == bare:
            return _messages([(match["role"], match["text"]) for match in found])
    one = INSTRUCTION.fullmatch(bare) or HEADINGS.fullmatch(bare)
    if one is None:
        return None
    given = one.groupdict().get("input")
    asked = f"{one['user'].strip()}\n{given.strip()}" if given and given.strip() else one["user"]
    return _messages([("user", asked), ("assistant", one["assistant"])])


def _messages(turns: Sequence[tuple[str, str]]) -> tuple[Message, ...] | None:
    messages = tuple(Message(OTHER_NAMES.get(role, role), text.strip()) for role, text in turns)
    spoken = [message for message in messages if message.role != "system"]
    known = all(message.role in ROLES and (message.text or message.role == "system") for message in messages)
    answered = len(spoken) >= 2 and spoken[-1] is messages[-1] and spoken[-1].role == "assistant"
    return messages if known and answered else None
