"""Measures the miniature's capacities by greedy generation on examples from held-out seeds."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainables.mini import tokenizer as tokens
from trainables.mini import world
from trainables.mini.model import MERGE_SIZE, Miniature
from trainables.mini.world import Example

if TYPE_CHECKING:
    from torch import Tensor


CAPTIONED = ("scene", "scene", "chat", "chart")

Capacities = Mapping[str, Callable[[random.Random], Example]]

CAPACITIES: Capacities = {
    "irrelevant": world.irrelevant,
    "caption": lambda rng: world.caption(rng, rng.choice(CAPTIONED)),
    "text": world.text,
    "task": world.task,
}


def held_out(capacity: str, count: int, seed: int = 0, capacities: Capacities = CAPACITIES) -> list[Example]:
    """Draw examples of one capacity from seeds that neither the base's training nor any data set uses."""
    rng = random.Random(f"held out/{seed}/{capacity}")
    return [capacities[capacity](rng) for _ in range(count)]


def render(tokenizer: Any, example: Example, image_tokens: int, answered: bool) -> list[int]:
    """Return an example as token ids, with the image placeholder repeated `image_tokens` times."""
    messages = world.conversation(example)
    turns = messages if answered else messages[:-1]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=not answered)
    expanded = text.replace(tokens.IMAGE_PAD, tokens.IMAGE_PAD * image_tokens)
    return tokenizer(expanded, add_special_tokens=False)["input_ids"]


def collate(miniature: Miniature, examples: Sequence[Example], answered: bool) -> dict[str, Tensor]:
    """Return a batch for the model's forward: (rows, tokens) padded left, or right with labels if `answered`.

    Labels are the assistant's answer with its end-of-turn token and line end; -100 elsewhere. Images become
    (patches, values) in `pixel_values` with their grids in `image_grid_thw`; a batch without images has neither.
    """
    import torch

    images = [example.image for example in examples if example.image is not None]
    tokenizer = miniature.tokenizer
    pixels = dict(miniature.processor(images=images, return_tensors="pt")) if images else {}
    counts = iter(pixels["image_grid_thw"].prod(-1).floor_divide(MERGE_SIZE**2).tolist() if images else [])
    image_tokens = [0 if example.image is None else next(counts) for example in examples]
    pairs = list(zip(examples, image_tokens, strict=True))
    prompts = [render(tokenizer, example, count, answered=False) for example, count in pairs]
    rows = [render(tokenizer, example, count, answered=True) for example, count in pairs] if answered else prompts
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        place = slice(0, len(row)) if answered else slice(width - len(row), width)
        ids[index, place], mask[index, place] = torch.tensor(row), 1
    batch = {"input_ids": ids, "attention_mask": mask, **pixels}
    if miniature.processor is not None:
        batch["mm_token_type_ids"] = ids.eq(tokenizer.convert_tokens_to_ids(tokens.IMAGE_PAD)).long()
    if answered:
        starts = torch.tensor([len(prompt) for prompt in prompts])[:, None]
        is_answer = (torch.arange(width)[None] >= starts) & mask.bool()
        batch["labels"] = ids.masked_fill(~is_answer, -100)
    return batch


def answers(miniature: Miniature, examples: Sequence[Example], batch_rows: int = 48) -> list[str]:
    """Answer every example by greedy generation of at most 24 tokens."""
    import torch

    given: list[str] = []
    for start in range(0, len(examples), batch_rows):
        batch = collate(miniature, examples[start : start + batch_rows], answered=False)
        with torch.inference_mode():
            output = miniature.network.generate(**batch, max_new_tokens=24, do_sample=False)
        generated = output[:, batch["input_ids"].shape[1] :]
        given += miniature.tokenizer.batch_decode(generated, skip_special_tokens=True)
    return given


def measure(
    miniature: Miniature, count: int = 96, seed: int = 0, capacities: Capacities = CAPACITIES
) -> dict[str, float]:
    """Measure the share of exact answers per capacity, and that of task words in answers to irrelevant images."""
    was_training = miniature.network.training
    miniature.network.eval()
    shares: dict[str, float] = {}
    for capacity in capacities:
        examples = held_out(capacity, count, seed, capacities)
        given = answers(miniature, examples)
        shares[capacity] = sum(one.answer == answer for one, answer in zip(examples, given, strict=True)) / count
        if capacity == "irrelevant":
            shares["hallucination"] = sum(any(word in answer for word in world.TASK_WORDS) for answer in given) / count
    miniature.network.train(was_training)
    return shares
