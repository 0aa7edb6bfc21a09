"""Tests the text miniature: deterministic disjoint splits, and a base that knows only parts of the task."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter

import pytest

from trainables.data.duplicates import check_disjoint
from trainables.data.ood import read_ood
from trainables.data.rows import read_rows
from trainables.errors import UserError
from trainables.mini.text import BASE_DIRECTORY, datasets, world
from trainables.probes.shell.judge import dangers, is_command_only


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return datasets.write(tmp_path_factory.mktemp("data") / "commands", seed=3)


def test_the_splits_have_their_sizes_and_share_no_command(files):
    train, validation, test = (read_rows(path) for path in (files.train, files.validation, files.test))
    assert [len(rows) for rows in (train, validation, test)] == [600, 64, 64]
    check_disjoint(train, validation, files.validation)
    check_disjoint([*train, *validation], test, files.test)
    assert len({row.answer for row in (*train, *validation, *test)}) == 728


def test_every_skill_is_in_train_and_most_in_validation(files):
    tools = {skill.tool for skill in world.SKILLS}
    assert {row.answer.split()[0] for row in read_rows(files.train)} == tools
    assert len({row.answer.split()[0] for row in read_rows(files.validation)}) >= 10


def test_an_answer_of_the_task_is_a_harmless_command_and_nothing_else(files):
    for row in (*read_rows(files.train), *read_rows(files.validation)):
        assert is_command_only(row.answer) and not dangers(row.answer), row.answer


def test_the_rows_outside_the_task_are_questions_of_text(files):
    rows = read_ood(files.ood, ("text",))
    assert {row.kind for row in rows} == {"text"} and len({row.messages for row in rows}) == len(rows) == 112
    assert Counter(row.group for row in rows) == {"general": 56, "declined": 34, "explained": 22}
    assert sum(row.expect == world.DECLINED for row in rows) == 34
    held = read_ood(files.ood_test, ("text",))
    assert len(held) == 112 and not {row.messages for row in held} & {row.messages for row in rows}


def test_what_is_declined_would_be_dangerous_to_run():
    rng = random.Random(0)
    for skill in world.DANGEROUS:
        for _ in range(20):
            command = world.filled(rng, skill, world.SYSTEM_DIRECTORIES).command
            assert dangers(command), command


def test_the_bases_training_never_answers_an_instruction_by_a_command():
    rng = random.Random(0)
    for one in (world.pretraining(rng) for _ in range(3000)):
        assert one.capacity == "copied" or not is_command_only(one.answer), one
        assert (one.answer == world.DECLINED) == (one.capacity == "declined")


def test_a_seed_gives_the_same_files_and_another_seed_is_refused(files, tmp_path):
    again = datasets.write(tmp_path / "again", seed=3)
    for path, other in zip(vars(files).values(), vars(again).values(), strict=True):
        assert path.read_bytes() == other.read_bytes()
    before = files.train.stat().st_mtime_ns
    assert datasets.write(files.train.parent, seed=3) == files and files.train.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="needs an empty or absent directory"):
        datasets.write(files.train.parent, seed=4)


def test_help_does_not_load_the_heavy_libraries():
    script = (
        "import sys, trainables.mini.text.__main__; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_weights_are_one_small_float16_file_of_a_qwen2():
    from safetensors import safe_open

    assert (BASE_DIRECTORY / "model.safetensors").stat().st_size < 2_000_000
    with safe_open(BASE_DIRECTORY / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F16"}  # noqa: SIM118
        widths = [weights.get_slice(name).get_shape()[1] for name in weights.keys() if "_proj.weight" in name]  # noqa: SIM118
    assert all(width % 64 == 0 for width in widths)
    assert json.loads((BASE_DIRECTORY / "config.json").read_text())["model_type"] == "qwen2"


def test_the_shipped_tokenizer_is_the_one_the_code_builds_and_keeps_words_whole():
    transformers = pytest.importorskip("transformers")
    from trainables.mini.text import model

    words, fresh = transformers.AutoTokenizer.from_pretrained(BASE_DIRECTORY), model.tokenizer()
    assert words.get_vocab() == fresh.get_vocab() and words.chat_template == fresh.chat_template
    assert (words.eos_token, words.pad_token) == ("<|im_end|>", "<|endoftext|>")
    rng = random.Random(7)
    split = [pre for one in (world.task(rng) for _ in range(200)) for pre in split_of(fresh, one.answer)]
    assert all(len(words.encode(piece)) == 1 for piece in split)
    assert words.decode(words.encode("Délete\n\t42 <x>!")) == "Délete\n\t42 <x>!"


def split_of(words, text):
    pieces = words.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    return [text[start:end] for _, (start, end) in pieces]


@pytest.mark.slow
def test_the_base_knows_the_parts_and_not_the_task():
    from trainables.mini.text import build, model

    shares = build.measure(model.load(BASE_DIRECTORY), count=96)
    assert min(shares[one] for one in ("general", "declined", "explained", "copied", "hinted")) >= 0.9
    assert shares["task"] == 0.0


@pytest.mark.slow
def test_a_build_trains_saves_and_measures(tmp_path):
    from trainables.mini.text import build

    shares = build.build(tmp_path / "base", steps=2, count=2)
    assert set(shares) == {"general", "declined", "explained", "copied", "hinted", "task"}
    assert not list(tmp_path.glob(".base-*"))
