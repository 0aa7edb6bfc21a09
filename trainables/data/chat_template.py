"""Renders conversations with the chat template of a base; no other file calls the template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from jinja2 import TemplateError

from trainables.data.formats import IMAGE_TAG, THINK, Message
from trainables.data.template_date import dated
from trainables.errors import UserError

THINKING = "enable_thinking"
GENERATION = re.compile(r"\{%[-+]?\s*generation\b")  # `{% generation %}` marks what an assistant writes


@dataclass(frozen=True)
class ChatTemplate:
    """The chat template of a tokenizer, with the variables that its family passes to it and the date that it shows.

    With `content_as_parts` the content of every turn is a list of parts, also where it is text alone.
    """

    tokenizer: Any
    variables: Mapping[str, Any]
    base_name: str
    template_date: date | None = None
    content_as_parts: bool = False

    @property
    def marks_answers(self) -> bool:
        """Return True if the template marks the assistant's text with `{% generation %}`."""
        return bool(self.tokenizer.chat_template) and bool(GENERATION.search(self.tokenizer.get_chat_template()))

    def render(self, messages: Sequence[Message], answer_next: bool, where: str) -> str:
        """Render turns as text; with `answer_next` up to the start of an answer.

        Raises:
            UserError: there is no template, or it refuses the turns.
        """
        return self._apply(messages, where, tokenize=False, add_generation_prompt=answer_next)

    def tokens_and_mask(self, messages: Sequence[Message], where: str) -> tuple[list[int], list[int]]:
        """Return the tokens of a conversation, and 1 for each token that the template marks as the assistant's.

        Raises:
            UserError: as `render`.
        """
        found = self._apply(messages, where, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
        return list(found["input_ids"]), list(found["assistant_masks"])

    def _apply(self, messages: Sequence[Message], where: str, **options: Any) -> Any:
        if not self.tokenizer.chat_template:
            raise UserError(
                f"{where}: a conversation needs a chat template, but the tokenizer of {self.base_name} has none",
                "use an instruction-tuned base, or copy its chat_template.jinja into the base's directory",
            )
        turns = [{"role": message.role, "content": _parts(message.text, self.content_as_parts)} for message in messages]
        try:
            template = dated(self.tokenizer.get_chat_template(), self.template_date)
            variables = self._variables_for(messages)
            return self.tokenizer.apply_chat_template(turns, chat_template=template, **options, **variables)
        except TemplateError as error:
            roles = ", ".join(message.role for message in messages)
            raise UserError(
                f"{where}: the chat template of {self.base_name} must accept its turns ({roles}), but reports: {error}",
                "some templates have no system turn; put its text at the start of the first user turn",
            ) from None

    def _variables_for(self, messages: Sequence[Message]) -> Mapping[str, Any]:
        # SmolLM3's puts the mode into the system turn, and an empty block of thoughts before every answer without them
        thinks = any(THINK in message.text for message in messages if message.role == "assistant")
        return {**self.variables, THINKING: True} if thinks and THINKING in self.variables else self.variables


def _parts(text: str, always: bool) -> str | list[dict[str, str]]:
    if IMAGE_TAG not in text and not always:
        return text
    pieces = text.split(IMAGE_TAG)
    parts: list[dict[str, str]] = [{"type": "text", "text": pieces[0]}] if pieces[0] else []
    for piece in pieces[1:]:
        parts.append({"type": "image"})
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts
