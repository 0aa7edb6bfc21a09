"""Tests the shipped base: an ordinary Hugging Face directory with measured capacities."""

from __future__ import annotations

import subprocess
import sys

import pytest

from trainables.mini import BASE_DIRECTORY, build, capacities, model
from trainables.mini.tokenizer import build as build_tokenizer

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def base():
    return model.load(BASE_DIRECTORY)


@pytest.fixture(scope="module")
def shares(base):
    return capacities.measure(base, count=96)


def test_the_weights_are_one_small_float16_file_computed_in_float32():
    from safetensors import safe_open

    assert (BASE_DIRECTORY / "model.safetensors").stat().st_size < 4_000_000
    with safe_open(BASE_DIRECTORY / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F16"}  # noqa: SIM118
    network = transformers.Qwen3VLForConditionalGeneration.from_pretrained(BASE_DIRECTORY)
    assert network.dtype is torch.float32


def test_the_towers_have_the_depths_that_the_placements_name(base):
    network = base.network
    assert len(network.model.language_model.layers) == model.LANGUAGE_LAYERS
    assert len(network.model.visual.blocks) == model.VISION_BLOCKS
    assert network.config.vision_config.deepstack_visual_indexes == [1, 3, 5]
    linears = [part for part in network.modules() if isinstance(part, torch.nn.Linear)]
    assert all(part.in_features % 64 == 0 for part in linears)


def test_the_shipped_tokenizer_is_the_one_the_code_builds(base):
    words = base.tokenizer
    fresh = build_tokenizer()
    assert words.get_vocab() == fresh.get_vocab() and words.chat_template == fresh.chat_template
    assert (words.eos_token, words.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_an_image_becomes_sixteen_tokens(base):
    batch = capacities.collate(base, capacities.held_out("task", 2), answered=True)
    assert batch["image_grid_thw"].tolist() == [[1, 8, 8], [1, 8, 8]]
    assert batch["mm_token_type_ids"].sum(1).tolist() == [16, 16]


def test_labels_are_the_answer_alone(base):
    examples = [*capacities.held_out("task", 2), *capacities.held_out("text", 2)]
    batch = capacities.collate(base, examples, answered=True)
    for example, labels in zip(examples, batch["labels"], strict=True):
        assert base.tokenizer.decode(labels[labels != -100]) == f"{example.answer}<|im_end|>\n"


def test_the_base_refuses_irrelevant_images(shares):
    assert shares["irrelevant"] >= 0.95
    assert shares["hallucination"] <= 0.02


def test_the_base_captions_pictures_in_chinese(shares):
    assert shares["caption"] >= 0.75


def test_the_base_answers_text_without_an_image(shares):
    assert shares["text"] >= 0.95


def test_the_base_does_not_know_the_task(shares):
    assert shares["task"] < 0.05


def test_a_build_trains_saves_and_measures(tmp_path):
    shares = build.build(tmp_path / "base", steps=2, count=2)
    assert set(shares) == {"irrelevant", "caption", "text", "task", "hallucination"}
    assert not list(tmp_path.glob(".base-*"))


def test_help_does_not_load_the_heavy_libraries():
    script = (
        "import sys, trainables.mini.__main__ as cli; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
