"""Turns a conversation into tokens and labels: what the chat template renders, supervised at answers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import date
from functools import cached_property
from typing import Any

from trainables.data.chat_template import ChatTemplate
from trainables.data.formats import IMAGE_TAG, Message
from trainables.data.picture_text import placed
from trainables.data.structural_tokens import first_within, structural_tokens
from trainables.data.supervision import IGNORED, Span, answer_spans, supervised_labels
from trainables.errors import UserError
from trainables.model.families import Family

PLAIN_ANSWER, THOUGHT_ANSWER = "yes", "<think>\nyes\n</think>\n\nyes"
PROBE = (Message("user", "Say yes."), Message("assistant", PLAIN_ANSWER))


class Conversations:
    """Tokenizes conversations with the tokenizer and the chat template of one base; reads no pictures.

    `pictures` are the texts that stand for them, in families that write more than one token for a picture.
    """

    def __init__(self, tokenizer: Any, family: Family, base_name: str, template_date: date | None = None) -> None:
        self.tokenizer = tokenizer
        self.base_name = base_name
        self.picture_text = family.picture_text
        self.template = ChatTemplate(
            tokenizer, family.template_variables, base_name, template_date, family.content_as_parts
        )
        self._family_ends = tuple(one for one in family.answer_ends if one in tokenizer.added_tokens_encoder)

    def supervised(
        self, messages: Sequence[Message], where: str, pictures: Sequence[str] = ()
    ) -> tuple[list[int], list[int]]:
        """Return the tokens of a conversation, and labels that equal them in answers and are -100 elsewhere.

        Raises:
            UserError: the template cannot be used, or drops or alters an answer; or a text holds a structural token.
        """
        self.check_texts(messages, where)
        rendered = self._rendered(messages, False, where, pictures)
        spans = answer_spans(messages, rendered, lambda turns: self._rendered(turns, False, where, pictures), where)
        places = self.tokenizer(rendered, add_special_tokens=False)
        if self.template.marks_answers:
            tokens, labels = self._marked(messages, where, bool(pictures))
        else:
            tokens = list(places["input_ids"])
            found = supervised_labels(tokens, places, rendered, self._with_lead(spans, rendered), self.answer_ends)
            if found is None:
                raise UserError(
                    f"{where}: the chat template must end an answer with `{self.tokenizer.eos_token}`, but it does not",
                    "the model must learn to end its answers; use the tokenizer of an instruction-tuned base",
                )
            labels = found
        answers = [message for message in messages if message.role == "assistant"]
        starts = [*(_run_start(labels, places.char_to_token(span.start)) for span in spans), len(tokens)]
        for message, (start, following) in zip(answers, itertools.pairwise(starts), strict=True):
            if not message.supervised:
                labels[start:following] = [IGNORED] * (following - start)
        return tokens, labels

    def prompt(self, messages: Sequence[Message], thinks: bool, where: str, pictures: Sequence[str] = ()) -> list[int]:
        """Return the tokens up to the start of an answer, as a conversation with an answer has them there.

        That is the template's generation prompt, unless the template puts something else before an answer, such as an
        empty block of thoughts. With `thinks` the answer begins with its thoughts.

        Raises:
            UserError: the template cannot be used, or a text holds a structural token.
        """
        self.check_texts(messages, where)
        asked = self._rendered(messages, True, where, pictures)
        answer = THOUGHT_ANSWER if thinks else PLAIN_ANSWER
        whole = self._rendered((*messages, Message("assistant", answer)), False, where, pictures)
        before = whole.rpartition(answer)[0] or asked
        return self.tokens_of(asked if before.rstrip() == asked.rstrip() else before)

    def check_texts(self, messages: Sequence[Message], where: str) -> None:
        """Check that no text holds a token that ends or starts a turn or stands for a picture.

        Raises:
            UserError: names the turn and the token.
        """
        for index, message in enumerate(messages):
            # the tag of a picture is a token of some families; tags and pictures are counted where rows are read
            found = first_within(message.text.replace(IMAGE_TAG, " "), self.structural_tokens)
            if found is not None:
                raise UserError(
                    f"{where}: a text must not hold tokens that structure the conversation, but turn {index} "
                    f"({message.role}) holds `{found}`",
                    "write every turn of a pasted conversation as a turn of the row, and each image as "
                    f"`{IMAGE_TAG}` in a question; or remove the token",
                )

    def tokens_of(self, rendered: str) -> list[int]:
        """Tokenize a rendered text; the template itself adds the start-of-sequence token."""
        return list(self.tokenizer(rendered, add_special_tokens=False)["input_ids"])

    @cached_property
    def answer_ends(self) -> tuple[int, ...]:
        """Return the tokens that end an answer: the end of sequence, and the end of turn of the chat template.

        They differ for bases such as Llama 3 and Gemma, which use the end of sequence for documents only. Where the
        template writes nothing after an answer, as GLM-4's, they are those of the family.
        """
        added = self.tokenizer.added_tokens_encoder
        written = self._written_end[:1] or [added[token] for token in self._family_ends]
        return tuple(dict.fromkeys([self.tokenizer.eos_token_id, *written]))

    @cached_property
    def structural_tokens(self) -> frozenset[str]:
        """Return the tokens that no text of a row may hold."""
        has_template = bool(self.tokenizer.chat_template)
        return structural_tokens(self.tokenizer, self._probe + self._probe_question if has_template else "")

    @cached_property
    def unspoken(self) -> frozenset[int]:
        """Return the ids of the structural tokens, which are no part of the text of a generated answer."""
        added = self.tokenizer.added_tokens_encoder
        return frozenset(added[token] for token in self.structural_tokens if token in added)

    @cached_property
    def _written_end(self) -> list[int]:
        after = self._probe.rpartition(PLAIN_ANSWER)[2]
        return [token for token in self.tokens_of(after) if token in self.tokenizer.added_tokens_decoder]

    def _ended(self, rendered: str, messages: Sequence[Message]) -> str:
        """Return a rendered conversation with the family's end of an answer, where the template writes none."""
        is_answer = bool(messages) and messages[-1].role == "assistant"
        if not self._family_ends or self._written_end or not is_answer:
            return rendered
        return rendered + self._family_ends[0]

    @cached_property
    def _probe(self) -> str:
        return self.template.render(PROBE, False, "a question and its answer")

    @cached_property
    def _probe_question(self) -> str:
        return self.template.render(PROBE[:1], True, "a question")

    def _rendered(
        self, messages: Sequence[Message], answer_next: bool, where: str, pictures: Sequence[str] = ()
    ) -> str:
        text = self._ended(self.template.render(messages, answer_next, where), () if answer_next else messages)
        return placed(text, self.picture_text.placeholder, pictures, where) if self.picture_text else text

    def _marked(self, messages: Sequence[Message], where: str, has_pictures: bool) -> tuple[list[int], list[int]]:
        if has_pictures:
            raise UserError(
                f"{where}: a chat template with {{% generation %}} marks answers before pictures become tokens, so a "
                f"row of {self.base_name} must have no pictures, but it has",
                "remove {% generation %} and {% endgeneration %} from the template: answers are then found in its text",
            )
        tokens, mask = self.template.tokens_and_mask(messages, where)
        if not any(mask):
            raise UserError(
                f"{where}: a chat template with {{% generation %}} must mark the assistant's text, but that of "
                f"{self.base_name} marks no token of this row",
                "put {% generation %} and {% endgeneration %} around the content of every assistant turn",
            )
        end = self.tokens_of(self._ended("", messages))
        labels = [token if marked else IGNORED for token, marked in zip(tokens, mask, strict=True)]
        return tokens + end, labels + end

    def _with_lead(self, spans: Sequence[Span], rendered: str) -> list[Span]:
        # white space between the generation prompt and the answer is generated, as `[/INST] five` of Mistral
        before = self._probe.rpartition(PLAIN_ANSWER)[0]
        lead = before.removeprefix(self._probe_question) if before.startswith(self._probe_question) else ""
        width = 0 if lead.strip() else len(lead)
        return [Span(one.start - width * rendered.endswith(lead, 0, one.start), one.end) for one in spans]


def _run_start(labels: Sequence[int], token: int) -> int:
    """Return the first of the supervised tokens around `token`: some templates mark the header of an answer too."""
    return next((place for place in range(token, 0, -1) if labels[place - 1] == IGNORED), 0)
