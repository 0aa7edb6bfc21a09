"""Tests that what decides the activations of a base is read from the base as it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.frozen import facts
from trainables.frozen.budget import MOST_BYTES, memory_budget
from trainables.frozen.facts import code_digest, facts_of, is_random_in_training
from trainables.frozen.key import Facts
from trainables.model.base import Base

Loader = Callable[..., Base]


def differing(one: Facts, other: Facts) -> set[str]:
    return {name for name, value in asdict(one).items() if value != asdict(other)[name]}


def test_the_same_base_has_the_same_facts(own_base: Loader) -> None:
    assert facts_of(own_base()) == facts_of(own_base())


def test_one_changed_weight_is_another_base(own_base: Loader) -> None:
    base = own_base()
    before = facts_of(base)
    weights = base.model.model.language_model.layers[2].mlp.up_proj.weight
    first, second = weights.data[0, :2].clone()
    weights.data[0, 0], weights.data[0, 1] = second, first  # their sum is the same
    assert first != second and differing(before, facts_of(base)) == {"weights"}


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"dtype": "bfloat16"}, {"weights", "configuration"}),
        ({"quantization": "nf4"}, {"weights", "layers"}),
    ],
)
def test_type_and_quantization_are_another_base(own_base: Loader, other: dict[str, Any], expected: set[str]) -> None:
    assert differing(facts_of(own_base()), facts_of(own_base(**other))) >= expected


def test_double_quantization_is_another_base(own_base: Loader) -> None:
    assert "weights" in differing(facts_of(own_base("nf4")), facts_of(own_base("nf4-double")))


def changed_taps(base: Base) -> None:
    base.model.config.vision_config.deepstack_visual_indexes = [0, 3, 5]


def changed_image_token(base: Base) -> None:
    base.model.config.image_token_id += 1


def eager(base: Base) -> None:
    base.model.set_attn_implementation("eager")


@pytest.mark.parametrize(
    ("change", "expected"),
    [(changed_taps, {"configuration"}), (changed_image_token, {"configuration"}), (eager, {"attention"})],
)
def test_what_the_configuration_decides_is_a_fact(
    own_base: Loader, change: Callable[[Base], None], expected: set[str]
) -> None:
    base = own_base()
    before = facts_of(base)
    change(base)
    assert differing(before, facts_of(base)) == expected


def test_libraries_threads_and_arithmetic_are_facts(own_base: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    base = own_base()
    before = facts_of(base)
    with monkeypatch.context() as patch:
        patch.setattr(facts, "version", lambda name: "99" if name == "transformers" else "1")
        assert differing(before, facts_of(base)) == {"versions"}
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 77)
        assert differing(before, facts_of(base)) == {"device"}
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
        assert differing(before, facts_of(base)) == {"arithmetic"}


@pytest.mark.parametrize("folder", facts.OWN_CODE)
def test_our_own_code_is_a_fact(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "one.py").write_text("1", encoding="utf-8")
    before = code_digest(tmp_path)
    (tmp_path / folder / "one.py").write_text("2", encoding="utf-8")
    after = code_digest(tmp_path)
    (tmp_path / folder / "one.py").rename(tmp_path / folder / "two.py")
    assert len({before, after, code_digest(tmp_path)}) == 3
    assert code_digest(facts.PACKAGE) not in (before, after)
    assert all(any((facts.PACKAGE / one).glob("*.py")) for one in facts.OWN_CODE)


def test_dropout_of_the_base_makes_it_random_in_training(own_base: Loader) -> None:
    base = own_base()
    assert not is_random_in_training(base)
    base.model.model.language_model.layers[0].mlp.add_module("drop", torch.nn.Dropout(0.0))
    assert not is_random_in_training(base)
    base.model.model.language_model.layers[0].mlp.drop.p = 0.1
    assert is_random_in_training(base)
    of_attention = own_base()
    of_attention.model.config.text_config.attention_dropout = 0.1
    assert is_random_in_training(of_attention)


def test_the_memory_for_activations_is_a_small_share_of_the_least_that_is_free() -> None:
    assert memory_budget([10 * 2**30, None, 2**30]) == 2**30 // 10
    assert memory_budget([2**60]) == MOST_BYTES
    assert memory_budget([None]) == 0 and memory_budget([-5]) == 0
