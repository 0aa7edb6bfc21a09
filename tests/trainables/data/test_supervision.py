"""Tests which tokens of a conversation are supervised, on templates with the behaviour of the families."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from family_templates import (
    CHATML,
    FAMILY_TEMPLATES,
    GLM4,
    PHI,
    QWEN3,
    SMOLLM3_MARKED,
    FamilyTemplate,
    tokenizer_of,
)

from trainables.data.conversation import Conversations
from trainables.data.formats import Message
from trainables.data.supervision import IGNORED
from trainables.errors import UserError
from trainables.model.families import FAMILIES

TWO = (
    Message("user", "say blue"),
    Message("assistant", "blue"),
    Message("user", "say five"),
    Message("assistant", "five"),
)
ONE = TWO[2:]
THOUGHT = "<think>\nit says five\n</think>\n\nfive"
EVERY_FAMILY = pytest.mark.parametrize("name", FAMILY_TEMPLATES)


def conversations(family: FamilyTemplate | str, template: str | None = None) -> Conversations:
    found = FAMILY_TEMPLATES[family] if isinstance(family, str) else family
    return Conversations(tokenizer_of(found, template), FAMILIES[found.model_type], "base")


def runs(found: Conversations, labels: list[int]) -> list[str]:
    """Decode every run of supervised tokens, without white space around it."""
    kept: list[list[int]] = [[]]
    for label in labels:
        if label != IGNORED:
            kept[-1].append(label)
        elif kept[-1]:
            kept.append([])
    return [found.tokenizer.decode(run).strip() for run in kept if run]


@EVERY_FAMILY
@pytest.mark.parametrize("system", [False, True])
def test_every_answer_is_supervised_through_its_turn_end(name: str, system: bool) -> None:
    family, found = FAMILY_TEMPLATES[name], conversations(name)
    turns = (*[Message("system", "Be brief.")] * (system and family.system), *TWO)
    tokens, labels = found.supervised(turns, "row `x`")
    assert runs(found, labels) == [f"blue{family.end}", f"five{family.end}"]
    written = [{"role": one.role, "content": one.text} for one in turns]
    theirs = found.tokenizer.apply_chat_template(written, tokenize=True, return_dict=False, enable_thinking=False)
    closed = found.tokenizer.convert_tokens_to_ids([family.end] * family.unended)
    assert tokens == theirs + closed
    assert all(label in (IGNORED, token) for token, label in zip(tokens, labels, strict=True))


@EVERY_FAMILY
def test_a_prompt_ends_where_the_supervised_answer_begins(name: str) -> None:
    """An answer is asked for in the context in which it is trained."""
    found = conversations(name)
    tokens, labels = found.supervised(ONE, "row `x`")
    prompt = found.prompt(ONE[:1], False, "row `x`")
    start = next(place for place, label in enumerate(labels) if label != IGNORED)
    assert tokens[:start] == prompt
    assert found.tokenizer.decode(prompt).endswith(FAMILY_TEMPLATES[name].before)


@EVERY_FAMILY
@pytest.mark.parametrize("answer", ["  five", "five \n", "\n\nfive\n", " a\n  b "])
def test_white_space_at_the_edges_of_an_answer_is_as_the_template_shows_it(name: str, answer: str) -> None:
    found = conversations(name)
    tokens, labels = found.supervised((*TWO[:2], ONE[0], Message("assistant", answer)), "row `x`")
    assert runs(found, labels)[1].removesuffix(FAMILY_TEMPLATES[name].end).strip() == answer.strip()
    text = found.tokenizer.decode([label for label in labels if label != IGNORED])
    if answer in found.tokenizer.decode(tokens):  # the template does not trim
        assert answer in text


@pytest.mark.parametrize("name", ["chatml", "qwen3", "qwen3-thinking-2507", "qwen3-vl", "smollm"])
def test_thoughts_in_the_last_answer_are_supervised(name: str) -> None:
    found = conversations(name)
    turns = (*TWO[:3], Message("assistant", THOUGHT))
    tokens, labels = found.supervised(turns, "row `x`")
    assert runs(found, labels) == ["blue<|im_end|>", f"{THOUGHT}<|im_end|>"]
    start = len(tokens) - labels[::-1].index(found.tokenizer.convert_tokens_to_ids("<think>")) - 1
    assert found.prompt(turns[:3], True, "row `x`") == tokens[:start]


def test_thoughts_may_be_written_without_line_ends() -> None:
    found = conversations("qwen3")
    _, labels = found.supervised((ONE[0], Message("assistant", "<think>it says five</think>five")), "row `x`")
    assert runs(found, labels) == [f"{THOUGHT}<|im_end|>"]


@pytest.mark.parametrize("template", [None, SMOLLM3_MARKED])
def test_thoughts_put_smollm3_into_its_thinking_mode(template: str | None) -> None:
    found, turns = conversations("smollm3", template), (ONE[0], Message("assistant", THOUGHT))
    tokens, labels = found.supervised(turns, "row `x`")
    rendered = found.tokenizer.decode(tokens)
    assert "Reasoning Mode: /think" in rendered and "<think>\n\n</think>" not in rendered
    assert runs(found, labels)[-1].removeprefix("<|im_start|>assistant\n") == f"{THOUGHT}<|im_end|>"
    prompt = found.tokenizer.decode(found.prompt(turns[:1], True, "row `x`"))
    assert rendered.startswith(prompt) and prompt.endswith("<|im_start|>assistant\n")
    plain = found.tokenizer.decode(found.supervised(ONE, "row `x`")[0])
    assert "Reasoning Mode: /no_think" in plain and plain.count("<think>\n\n</think>\nfive") == 1


def test_a_system_turn_may_choose_the_mode_of_smollm3() -> None:
    found = conversations("smollm3")
    tokens, labels = found.supervised((Message("system", "Be brief. /think"), *ONE), "row `x`")
    assert "Reasoning Mode: /think" in found.tokenizer.decode(tokens) and runs(found, labels) == ["five<|im_end|>"]


def test_an_answer_of_glm_is_ended_by_the_token_of_the_next_turn() -> None:
    found = conversations("glm4")
    assert found.tokenizer.convert_ids_to_tokens(list(found.answer_ends)) == [
        "<|endoftext|>", "<|user|>", "<|observation|>",
    ]  # fmt: skip
    ended = GLM4.replace("m.content -}}", "m.content + ('<|endoftext|>' if m.role == 'assistant' else '') -}}")
    own = conversations("glm4", ended)  # a template that ends its answers itself
    tokens, labels = own.supervised(TWO, "row `x`")
    assert runs(own, labels) == ["blue<|endoftext|>", "five<|endoftext|>"]
    assert tokens[-1] == own.tokenizer.eos_token_id


def test_an_empty_block_of_thoughts_that_the_template_adds_is_not_supervised() -> None:
    found = conversations("qwen3")
    tokens, labels = found.supervised(TWO, "row `x`")
    think = found.tokenizer.convert_tokens_to_ids("<think>")
    assert tokens.count(think) == 1 and think not in labels
    _, written = found.supervised((ONE[0], Message("assistant", "<think>\n\n</think>\n\nfive")), "row `x`")
    assert written.count(think) == 1  # of the answer itself


def changed(content: str, template: str = CHATML) -> str:
    assert "m.content" in template
    return template.replace("m.content", content)


@pytest.mark.parametrize(
    "template",
    [
        changed("(m.content if loop.last or m.role == 'user' else '')"),  # drops earlier answers
        changed("(m.content | upper)"),
        changed("m.content[:2]"),
        changed("(m.content | replace('u', 'v'))"),
        changed("(m.content ~ m.content)"),
        changed("(m.content.split(' ') | join('  '))"),
    ],
)
def test_an_answer_that_the_template_drops_or_alters_is_refused(template: str) -> None:
    turns = (TWO[0], Message("assistant", "blue it is"), *TWO[2:])
    with pytest.raises(UserError, match="row `x`: the chat template must show every answer unaltered, but it drops"):
        conversations("chatml", template).supervised(turns, "row `x`")


def test_thoughts_of_an_earlier_answer_that_the_template_drops_are_refused_with_what_to_do() -> None:
    with pytest.raises(UserError, match="drops or alters part of turn 1 ") as caught:
        conversations("qwen3").supervised((TWO[0], Message("assistant", THOUGHT), *TWO[2:]), "row `x`")
    assert "remove the <think> block of this turn" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "template",
    [
        "{%- for m in messages -%}{{- m.role + ': ' + m.content + '\n' -}}{%- endfor -%}",
        "{%- for m in messages -%}{{- m.content + ' says the ' + m.role + eos_token -}}{%- endfor -%}",
        "{%- for m in messages -%}{{- m.role + ': ' + m.content + '\n' -}}{%- endfor -%}{{- eos_token -}}",
    ],
)
def test_an_answer_without_a_turn_end_right_after_it_is_refused(template: str) -> None:
    with pytest.raises(UserError, match="row `x`: the chat template must end an answer with"):
        conversations("chatml", template).supervised(TWO, "row `x`")


def test_an_answer_of_weight_zero_is_context_alone() -> None:
    for name, template in (("chatml", None), ("chatml", MARKING), ("smollm3", SMOLLM3_MARKED)):
        found = conversations(name, template)
        turns = (TWO[0], Message("assistant", "blue", supervised=False), *TWO[2:])
        [answer] = runs(found, found.supervised(turns, "row `x`")[1])
        assert answer.removeprefix("<|im_start|>assistant\n<think>\n\n</think>\n") == "five<|im_end|>"


# -------------------------------------------------------------------- templates that mark their answers
MARKING = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' -}}{%- if m.role == 'assistant' -%}"
    "{%- generation -%}{{- m.content + '<|im_end|>' -}}{%- endgeneration -%}{{- '\n' -}}"
    "{%- else -%}{{- m.content + '<|im_end|>\n' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
STRADDLING = MARKING.replace("'<|im_start|>' + m.role + '\n'", "'<|im_start|>' + m.role + ':'").replace(
    "{%- generation -%}", "{{- ' ' -}}{%- generation -%}"
)


@pytest.mark.parametrize(
    "template",
    [
        MARKING,
        STRADDLING,  # ` five` is one token, of which the space is the template's
        MARKING.replace("+ '<|im_end|>' -}}{%- endgeneration -%}", "-}}{%- endgeneration -%}{{- '<|im_end|>' -}}"),
        MARKING.replace("{%- endgeneration -%}{{- '\n' -}}", "{{- '\n' -}}{%- endgeneration -%}"),
        MARKING.replace("m.role == 'assistant'", "m.role == 'assistant' and loop.last"),
    ],
)
def test_tokens_and_labels_are_transformers_own_where_a_template_marks_its_answers(template: str) -> None:
    found = conversations("chatml", template)
    tokens, labels = found.supervised(TWO, "row `x`")
    theirs = found.tokenizer.apply_chat_template(
        [{"role": one.role, "content": one.text} for one in TWO],
        tokenize=True, return_dict=True, return_assistant_tokens_mask=True,
    )  # fmt: skip
    assert tokens == theirs["input_ids"]
    assert [label != IGNORED for label in labels] == [bool(one) for one in theirs["assistant_masks"]]
    assert any(theirs["assistant_masks"])


def test_an_unmarked_template_is_supervised_as_its_marked_twin() -> None:
    """The same rendering: what we find without marks is what transformers finds by them, straddling tokens included."""
    for template in (MARKING, STRADDLING):
        plain = template.replace("{%- generation -%}", "").replace("{%- endgeneration -%}", "")
        marked, found = (conversations("chatml", one).supervised(TWO, "x") for one in (template, plain))
        assert marked == found


def test_a_mask_without_a_token_is_an_error() -> None:
    template = MARKING.replace("m.role == 'assistant'", "m.role == 'nobody'")
    with pytest.raises(UserError, match=r"row `x`: .* marks no token of this row"):
        conversations("chatml", template).supervised(TWO, "row `x`")


# -------------------------------------------------------------------- tokens that structure a conversation
@EVERY_FAMILY
def test_a_token_that_structures_the_conversation_is_refused_in_any_text(name: str) -> None:
    family, found = FAMILY_TEMPLATES[name], conversations(name)
    for token in (family.end, family.eos, family.bos, *family.added):
        if token in (None, "[TOOL_CALLS]", "<|python_tag|>"):
            continue
        for index in range(2):
            turns = [*TWO]
            turns[index] = Message(TWO[index].role, f"With {token} and then the next.")
            with pytest.raises(UserError) as caught:
                found.supervised(turns, "row `x`")
            assert f"row `x`: a text must not hold tokens that structure the conversation, but turn {index} (" in str(
                caught.value
            )
            assert f"holds `{token}`" in caught.value.message
        with pytest.raises(UserError, match="must not hold tokens that structure"):
            found.prompt((Message("user", f"What is {token}?"),), False, "row `x`")


@EVERY_FAMILY
def test_tokens_that_belong_to_answers_are_supervised_and_survive_decoding(name: str) -> None:
    from trainables.evaluation.decoding import answer_tokens

    found = conversations(name)
    answer = "<|box_start|>(1,2)<|box_end|> <tool_call>{}</tool_call> five"
    _, labels = found.supervised((ONE[0], Message("assistant", answer)), "row `x`")
    generated = [label for label in labels if label != IGNORED]
    text = found.tokenizer.decode(answer_tokens(generated, found.answer_ends, found.unspoken))
    assert text.strip() == answer


def test_a_token_of_another_family_is_text() -> None:
    found = conversations("chatml")
    _, labels = found.supervised((ONE[0], Message("assistant", "five<|eot_id|>")), "row `x`")
    assert runs(found, labels) == ["five<|eot_id|><|im_end|>"]


# -------------------------------------------------------------------- templates of peers
def peer_templates() -> list[Path]:
    """Find the chat templates that an installed peer carries."""
    found: list[Path] = []
    for name in ("trl", "vllm", "transformers", "llamafactory", "swift"):
        package = importlib.util.find_spec(name)
        for place in (package.submodule_search_locations or ()) if package else ():
            found += sorted(Path(place).rglob("*.jinja"))
    return found


@pytest.mark.slow
def test_the_templates_of_installed_peers_are_supervised_or_refused_by_reason() -> None:
    templates = peer_templates()
    if not templates:
        pytest.skip("no installed package carries chat templates")
    supervised = 0
    for path in templates:
        text = path.read_text(encoding="utf-8")
        name = next((one for one, family in FAMILY_TEMPLATES.items() if family.end in text), "chatml")
        found = conversations(name, text)
        try:
            tokens, labels = found.supervised(TWO, "row `x`")
        except UserError:  # a template of another family: its tokens, or how it writes contents
            continue
        supervised += 1
        if found.template.marks_answers:
            mask = found.template.tokens_and_mask(TWO, "row `x`")[1]
            assert [label != IGNORED for label in labels] == [bool(one) for one in mask], path.name
        else:
            assert runs(found, labels) == [f"{one}{FAMILY_TEMPLATES[name].end}" for one in ("blue", "five")], path.name
        assert found.tokenizer.decode(tokens).count("five") == 2, path.name
    assert supervised


def test_phi_ends_a_turn_with_its_own_token_and_not_at_the_end_of_the_document() -> None:
    found: Any = conversations("phi")
    assert PHI in found.tokenizer.chat_template and QWEN3 not in found.tokenizer.chat_template
    ends = found.tokenizer.convert_ids_to_tokens(list(found.answer_ends))
    assert ends == ["<|endoftext|>", "<|end|>"]
