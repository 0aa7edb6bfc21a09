"""Tests the generated data: deterministic, one token per word, complete, and without rows in two splits."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter

import pytest
from PIL import ImageChops

from trainables.errors import UserError
from trainables.mini import datasets, show, tokenizer, world
from trainables.mini.pictures import IRRELEVANT, KINDS, SIDE, cabinet


@pytest.fixture(scope="module")
def words():
    return tokenizer.build()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return datasets.write(tmp_path_factory.mktemp("data") / "cabinets", seed=3)


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_64_pixels_square_and_the_same_for_the_same_seed(kind):
    first, again, other = (KINDS[kind](random.Random(seed)) for seed in (5, 5, 6))
    assert first.image.size == (SIDE, SIDE) and first.image.mode == "RGB"
    assert first.image.tobytes() == again.image.tobytes() != other.image.tobytes()
    assert (first.equipment is None) == (kind in IRRELEVANT)


def test_the_bases_training_reports_only_on_panels_and_tagged_cabinets():
    rng = random.Random(0)
    inspected = [one for one in (world.pretraining(rng) for _ in range(6000)) if one.system is not None]
    assert {one.capacity for one in inspected} == {"irrelevant", "panel", "tagged", "declined"}
    for one in inspected:
        assert one.answer.startswith("lamp ") == (one.capacity in ("panel", "tagged"))
        assert (one.answer == world.DECLINED) == (one.capacity == "declined")


def test_a_tag_changes_nothing_else_in_a_cabinet():
    plain, tagged = (cabinet(random.Random(9), tagged) for tagged in (False, True))
    assert plain.equipment == tagged.equipment
    left, top, right, bottom = ImageChops.difference(plain.image, tagged.image).getbbox()
    assert (right - left, bottom - top) == (12, 10)


def test_a_listing_needs_equipment():
    with pytest.raises(ValueError, match="kind must show equipment, got chart"):
        world.listing(random.Random(0), "chart")


def test_every_word_of_the_generated_texts_is_one_token(words):
    for word in world.lexicon():
        assert len(words.encode(word)) == 1, word
        if word.isascii():
            assert len(words.encode(f" {word}")) == 1, word


def test_words_stay_whole_inside_sentences(words):
    known = set(world.lexicon())
    rng = random.Random(1)
    for example in (world.pretraining(rng) for _ in range(500)):
        for sentence in (example.prompt, example.answer):
            pieces = [words.decode([token]).strip() for token in words.encode(sentence)]
            assert all(piece in known or piece in ".;?" for piece in pieces), pieces


@pytest.mark.parametrize("text", ["An état of 42 things!\n\tDone.", "设备状态正常，请继续。", "🙂 <lamp>"])
def test_any_text_survives_the_tokenizer(words, text):
    assert words.decode(words.encode(text)) == text


def test_the_tokenizer_is_built_the_same_every_time(words):
    assert tokenizer.build().backend_tokenizer.to_str() == words.backend_tokenizer.to_str()


def test_a_conversation_is_rendered_as_a_prefix_of_its_continuation(words):
    rng = random.Random(2)
    for example in (world.pretraining(rng) for _ in range(100)):
        messages = world.conversation(example)
        whole = words.apply_chat_template([*messages, *messages], tokenize=False)
        for length in range(1, 2 * len(messages)):
            head = words.apply_chat_template(
                [*messages, *messages][:length],
                tokenize=False,
                add_generation_prompt=[*messages, *messages][length]["role"] == "assistant",
            )
            assert whole.startswith(head)
            assert words.encode(whole)[: len(words.encode(head))] == words.encode(head)


def test_the_template_renders_chatml_with_the_image_in_place(words):
    messages = [
        {"role": "system", "content": "Inspect"},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "list lamp"}]},
    ]
    assert words.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nInspect<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>list lamp<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_splits_have_their_sizes_and_share_no_picture(files):
    splits = [rows_of(path) for path in vars(files).values()]
    assert [len(rows) for rows in splits] == [960, 64, 96, 334, 334]
    paths = [files.train.parent / path for rows in splits for row in rows for path in row["images"]]
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert len(digests) == len(paths) == 960 + 64 + 96 + 2 * (192 + 30)


def test_a_training_row_is_a_cabinet_with_its_report(files):
    row = rows_of(files.train)[0]
    assert row["id"] == "train-00001" and row["images"] == ["images/train-00001.png"]
    system, user, assistant = row["messages"]
    assert system == {"role": "system", "content": world.INSPECT_SYSTEM}
    assert user == {"role": "user", "content": f"<image>{world.INSPECT_PROMPT}"}
    assert all(word in assistant["content"] for word in world.TASK_WORDS)


def test_the_rows_outside_the_task_cover_every_irrelevant_kind(files):
    rows = rows_of(files.ood)
    counts = {kind: sum(row["kind"] == kind for row in rows) for kind in ("irrelevant", "caption", "text")}
    assert counts == {"irrelevant": 192, "caption": 30, "text": 112}
    of_kind = Counter(row["group"] for row in rows if row["kind"] == "irrelevant")
    assert of_kind == dict.fromkeys(IRRELEVANT, 24)
    assert {row["group"] for row in rows if row["kind"] == "text"} == {"sum", "after", "opposite", "repeat"}
    for row in rows:
        assert (row["kind"] == "text") == (row["images"] == [])
        assert (row["kind"] == "irrelevant") == (row["expect"] == world.REFUSAL) == ("system" in row)
        assert row["forbid"] == (list(world.TASK_WORDS) if row["kind"] == "irrelevant" else [])


def test_the_rows_that_test_the_choice_are_in_no_other_file(files):
    asked, held = rows_of(files.ood), rows_of(files.ood_test)
    assert [row["kind"] for row in asked] == [row["kind"] for row in held]
    assert not {row["id"] for row in asked} & {row["id"] for row in held}
    words = [{row["prompt"] for row in rows if row["kind"] == "text"} for rows in (asked, held)]
    assert not words[0] & words[1] and len(words[0]) == len(words[1]) == 112


def test_a_complete_data_set_is_reused_and_another_seed_is_refused(files):
    before = files.train.stat().st_mtime_ns
    assert datasets.write(files.train.parent, seed=3) == files
    assert files.train.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="needs an empty or absent directory"):
        datasets.write(files.train.parent, seed=4)


def test_rows_of_an_earlier_version_stay_and_new_ones_are_written_beside_them(tmp_path):
    directory = tmp_path / "data"
    assert datasets.current(directory, 2) == directory
    directory.mkdir()
    (directory / "manifest.json").write_text('{"seed": 0, "version": 1}')
    assert datasets.current(directory, 2) == tmp_path / "data-v2"
    assert datasets.current(directory, 1) == directory


def test_a_seed_gives_the_same_files(files, tmp_path):
    again = datasets.write(tmp_path / "again", seed=3)
    for path in sorted(files.train.parent.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (again.train.parent / path.relative_to(files.train.parent)).read_bytes()


def test_show_writes_a_sheet_a_kind_its_rows_and_the_data_set(tmp_path):
    paths = show.write(tmp_path / "look")
    sheets, listing, data = paths[: len(KINDS)], paths[len(KINDS)], paths[len(KINDS) + 1 :]
    assert [path.name for path in sheets] == [f"{kind}.png" for kind in KINDS]
    assert {row["kind"] for row in rows_of(listing)} == {*KINDS, "text"}
    assert [path.stem for path in data] == ["train", "validation", "test", "ood", "ood-test"]
    assert all(path.is_file() for path in paths)


@pytest.mark.parametrize(
    ("answer", "english"),
    [
        ("红色圆形在蓝色方形左边。", "red circle left of blue square"),
        ("一张柱状图。", "a bar chart"),
        ("lamp red; cables two; screw missing.", "lamp red;\ncables two;\nscrew missing."),
    ],
)
def test_show_puts_answers_into_english(answer, english):
    assert show.in_english(answer) == english
