from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_trials import SpecMaker

from trainables.data.encoding import IGNORED, Encoded, Encoder, chunks, collate, data_order
from trainables.data.rows import Message, Row, read_rows
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.model.base import Base

SYSTEM = Message("system", "Inspect the equipment.")
END = "<|im_end|>"


def rows_of(engine: Engine) -> list[Row]:
    return list(engine.train)


def supervised_texts(encoded: Encoded, engine: Engine) -> list[str]:
    """Decode every run of supervised tokens."""
    runs: list[list[int]] = [[]]
    for label in encoded.labels:
        if label != IGNORED:
            runs[-1].append(label)
        elif runs[-1]:
            runs.append([])
    return [engine.encoder.tokenizer.decode(run) for run in runs if run]


def test_only_the_assistants_words_and_their_end_are_supervised(engine: Engine) -> None:
    for row in rows_of(engine):
        encoded = engine.encoder.conversation(row)
        assert supervised_texts(encoded, engine) == [row.answer + END]
        assert all(label in (IGNORED, token) for token, label in zip(encoded.tokens, encoded.labels, strict=True))


def test_every_assistant_turn_is_supervised_with_and_without_pictures(engine: Engine) -> None:
    turns = (
        SYSTEM,
        Message("user", "Report the state."),
        Message("assistant", "lamp red"),
        Message("user", "And the cables?"),
        Message("assistant", "cables two; 无关图片"),
    )
    encoded = engine.encoder.conversation(Row("several", turns, ()))
    assert supervised_texts(encoded, engine) == ["lamp red" + END, "cables two; 无关图片" + END]
    assert encoded.views == ()
    whole = engine.encoder.tokenizer.apply_chat_template(
        [{"role": turn.role, "content": turn.text} for turn in turns], tokenize=False
    )
    assert engine.encoder.tokenizer.decode(encoded.tokens) == whole


def test_a_training_row_is_the_prompt_followed_by_the_answer(engine: Engine) -> None:
    row = rows_of(engine)[0]
    prompt = engine.encoder.prompt(row.prompt, row.images)
    encoded = engine.encoder.conversation(row)
    assert encoded.tokens[: len(prompt.tokens)] == prompt.tokens
    assert set(prompt.labels) == {IGNORED}
    assert encoded.labels[len(prompt.tokens)] != IGNORED
    assert set(encoded.labels[: len(prompt.tokens)]) == {IGNORED}


@pytest.mark.parametrize("images", [1, 2])
def test_image_tokens_are_as_many_as_the_vision_tower_gives(images: int, engine: Engine) -> None:
    import torch

    row = rows_of(engine)[0]
    pictures = tuple(one.images[0] for one in rows_of(engine)[:images])
    messages = (Message("user", "<image>" * images + "Report."), Message("assistant", "lamp red"))
    encoded = engine.encoder.conversation(replace(row, messages=messages, images=pictures))
    batch = collate([encoded], engine.encoder, engine.base.device, pad_left=False)
    with torch.no_grad():
        features = engine.base.model.model.visual(batch.inputs["pixel_values"], grid_thw=batch.inputs["image_grid_thw"])
    count = features.pooler_output.shape[0]
    assert encoded.tokens.count(engine.encoder.image_token_id) == count > 0
    assert all(label == IGNORED for token, label in zip(encoded.tokens, encoded.labels, strict=True)
               if token == engine.encoder.image_token_id)  # fmt: skip


def test_image_tokens_are_in_place_of_their_tags(engine: Engine) -> None:
    row = rows_of(engine)[0]
    messages = (Message("user", "Before <image> after"), Message("assistant", "lamp red"))
    text = engine.encoder.tokenizer.decode(engine.encoder.conversation(replace(row, messages=messages)).tokens)
    before, after = text.index("Before"), text.index("after")
    assert before < text.index("<|vision_start|>") < text.index("<|image_pad|>") < after


def with_template(base: Base, template: str) -> Encoder:
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.chat_template = template
    return Encoder(replace(base, tokenizer=tokenizer))


NO_END_OF_TURN = (
    "{%- for message in messages -%}{{- message.role + ': ' + message.content + '\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'assistant: ' -}}{%- endif -%}"
)


def test_a_template_without_end_of_turn_is_refused(engine: Engine) -> None:
    turns = (Message("user", "a"), Message("assistant", "lamp"))
    with pytest.raises(
        UserError, match="row `x`: the chat template must end an answer with `<|im_end|>`".replace("|", r"\|")
    ):
        with_template(engine.base, NO_END_OF_TURN).conversation(Row("x", turns, ()))


@pytest.mark.parametrize("with_picture", [False, True])
def test_an_image_token_without_an_image_is_refused(with_picture: bool, engine: Engine) -> None:
    images = rows_of(engine)[0].images if with_picture else ()
    text = "<image>" * with_picture + "What is <|image_pad|>?"
    row = Row("x", (Message("user", text), Message("assistant", "a token")), images)
    with pytest.raises(UserError, match=r"row `x`: .* turn 0 \(user\) holds `<\|image_pad\|>`"):
        engine.encoder.conversation(row)


def test_a_file_that_is_not_a_picture_is_named(engine: Engine, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    row = replace(rows_of(engine)[0], images=(broken,))
    with pytest.raises(UserError, match=f"{broken}: an image must be readable"):
        engine.encoder.conversation(row)


def test_a_truncated_picture_is_named(engine: Engine, tmp_path: Path) -> None:
    broken = tmp_path / "half.png"
    whole = rows_of(engine)[0].images[0].read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=f"{broken}: an image must be readable"):
        engine.encoder.conversation(replace(rows_of(engine)[0], images=(broken,)))


def test_padding_left_or_right_gives_the_same_logits(engine: Engine) -> None:
    import torch

    text_only = Row("t", (Message("user", "Opposite of hard?"), Message("assistant", "soft.")), ())
    rows = [engine.encoder.conversation(row) for row in (*rows_of(engine)[:2], text_only)]
    found = {}
    for pad_left in (False, True):
        batch = collate(rows, engine.encoder, engine.base.device, pad_left)
        with torch.no_grad():
            logits = engine.base.model(**batch.inputs).logits
        supervised = batch.labels != IGNORED
        found[pad_left] = (logits[:, :-1][supervised[:, 1:]], batch.labels[supervised])
    alone = []
    for row in rows:
        batch = collate([row], engine.encoder, engine.base.device, pad_left=False)
        with torch.no_grad():
            logits = engine.base.model(**batch.inputs).logits
        alone.append(logits[:, :-1][batch.labels[:, 1:] != IGNORED])
    assert torch.equal(found[False][1], found[True][1])
    torch.testing.assert_close(found[False][0], found[True][0], rtol=0, atol=2e-4)
    torch.testing.assert_close(found[False][0], torch.cat(alone), rtol=0, atol=2e-4)


def test_prompts_end_together_and_rows_begin_together(engine: Engine) -> None:
    short = Row("t", (Message("user", "Hi"), Message("assistant", "soft.")), ())
    rows = [engine.encoder.conversation(row) for row in (rows_of(engine)[0], short)]
    left, right = (collate(rows, engine.encoder, engine.base.device, pad_left) for pad_left in (True, False))
    padding = len(rows[0].tokens) - len(rows[1].tokens)
    assert padding > 0
    for batch, shift in ((left, padding), (right, 0)):
        end = shift + len(rows[1].tokens)
        assert batch.inputs["input_ids"][1, shift:end].tolist() == rows[1].tokens
        assert batch.labels[1, shift:end].tolist() == rows[1].labels
        assert batch.inputs["attention_mask"][1].nonzero().flatten().tolist() == list(range(shift, end))
    assert set(left.labels[1, :padding].tolist()) == {IGNORED}


def test_a_batch_counts_the_tokens_that_carry_loss(engine: Engine) -> None:
    rows = [engine.encoder.conversation(row) for row in rows_of(engine)[:3]]
    batch = collate(rows, engine.encoder, engine.base.device, pad_left=False)
    assert batch.supervised_tokens == sum(label != IGNORED for row in rows for label in row.labels[1:])
    assert batch.inputs["attention_mask"].sum() == sum(len(row.tokens) for row in rows)
    assert batch.inputs["image_grid_thw"].prod(dim=1).sum() == batch.inputs["pixel_values"].shape[0]


def test_a_crop_is_another_picture_of_the_same_size(engine: Engine) -> None:
    row = rows_of(engine)[0]
    whole, same, cropped = (
        engine.encoder.prompt(row.prompt, row.images, crop) for crop in (None, (0.0, 0.0, 1.0), (0.06, 0.06, 0.94))
    )
    assert whole.tokens == cropped.tokens
    pixels = [engine.encoder.pixels(one.views[0]) for one in (whole, same, cropped)]
    assert pixels[0].values.equal(pixels[1].values)
    assert pixels[0].grid.equal(pixels[2].grid)
    assert not pixels[0].values.equal(pixels[2].values)


def test_every_epoch_is_a_new_permutation_that_the_data_seed_alone_decides() -> None:
    import random

    epochs = [list(islice(data_order(50, 3), 50 * n, 50 * (n + 1))) for n in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    random.seed(99)
    assert list(islice(data_order(50, 3), 150)) == [*epochs[0], *epochs[1], *epochs[2]]
    assert list(islice(data_order(50, 4), 50)) != epochs[0]
    # the same in every process, on every machine: a resumed trial goes on in the order it began
    assert list(islice(data_order(6, 0), 12)) == [0, 5, 3, 1, 4, 2, 4, 3, 0, 5, 2, 1]


def test_pixels_are_the_image_processors_own_with_and_without_the_cache(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    paths = [row.images[0] for row in rows_of(engine)[:2]]
    theirs = engine.base.image_processor(
        images=[Image.open(path).convert("RGB") for path in paths], return_tensors="pt"
    )
    for room in (2**20, 0):
        monkeypatch.setattr("trainables.data.encoding.PIXEL_CACHE_BYTES", room)
        encoder = Encoder(engine.base)
        for _ in range(2):
            batch = collate(
                [encoder.prompt((Message("user", "<image>" * 2),), paths)], encoder, engine.base.device, True
            )
            assert batch.inputs["pixel_values"].equal(theirs["pixel_values"])
            assert batch.inputs["image_grid_thw"].equal(theirs["image_grid_thw"])


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=30), max_tokens=st.integers(1, 200))
def test_chunks_hold_every_row_once_and_no_more_tokens_than_allowed(lengths: list[int], max_tokens: int) -> None:
    rows = [Encoded([0] * length, [0] * length, ()) for length in lengths]
    found = list(chunks(rows, max_tokens))
    assert sorted(index for chunk in found for index in chunk) == list(range(len(rows)))
    for chunk in found:
        assert len(chunk) == 1 or len(chunk) * max(lengths[index] for index in chunk) <= max_tokens


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=30), ratio=st.floats(1.0, 4.0))
def test_no_row_of_a_chunk_is_longer_than_the_ratio_allows(lengths: list[int], ratio: float) -> None:
    rows = [Encoded([0] * length, [0] * length, ()) for length in lengths]
    found = list(chunks(rows, 200, ratio))
    assert sorted(index for chunk in found for index in chunk) == list(range(len(rows)))
    for chunk in found:
        assert max(lengths[index] for index in chunk) <= ratio * min(lengths[index] for index in chunk)


def test_a_row_longer_than_max_tokens_is_refused_and_never_cut(engine: Engine) -> None:
    length = len(engine.encoder.conversation(rows_of(engine)[0]).tokens)
    assert len(engine.encode(0, length).tokens) == length
    with pytest.raises(UserError, match=f"must fit max_tokens = {length - 1}, but it has {length} tokens") as caught:
        engine.encode(0, length - 1)
    assert rows_of(engine)[0].row_id in caught.value.message


def test_a_real_template_of_the_family_is_supervised_the_same_way(
    own_base: Callable[..., Base], make_spec: SpecMaker
) -> None:
    """Qwen3-VL's published template writes no newline after the last turn's content and handles parts."""
    template = (
        "{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\n' }}"
        "{%- if messages[0].content is string %}{{- messages[0].content }}{%- else %}"
        "{%- for content in messages[0].content %}{%- if 'text' in content %}{{- content.text }}{%- endif %}"
        "{%- endfor %}{%- endif %}{{- '<|im_end|>\n' }}{%- endif %}"
        "{%- for message in messages %}{%- if message.role == 'user' %}{{- '<|im_start|>' + message.role + '\n' }}"
        "{%- if message.content is string %}{{- message.content }}{%- else %}"
        "{%- for content in message.content %}{%- if content.type == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{%- elif 'text' in content %}{{- content.text }}{%- endif %}"
        "{%- endfor %}{%- endif %}{{- '<|im_end|>\n' }}"
        "{%- elif message.role == 'assistant' %}{{- '<|im_start|>' + message.role + '\n' + message.content }}"
        "{{- '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
    )
    base = own_base()
    row = read_rows(make_spec().train.path)[0]
    assert with_template(base, template).conversation(row).tokens == Encoder(base).conversation(row).tokens
