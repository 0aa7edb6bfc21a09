"""Tests the list of plain LoRA against every key, kind and initialization of the installed PEFT."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, get_args, get_type_hints

import pytest

from trainables.checkpoints.plain_lora import RULES, kind_of, not_plain, unopenable

# As PEFT wrote them before it had the later keys, and with keys that PEFT has not had yet.
OLD = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": "none", "enable_lora": None, "merge_weights": False,
       "fan_in_fan_out": False, "modules_to_save": None, "target_modules": ["q_proj"]}  # fmt: skip
NOT_NEUTRAL: dict[str, Any] = {
    "task_type": "SEQ_CLS", "bias": "all", "modules_to_save": ["lm_head"], "rank_pattern": {"q_proj": 4},
    "alpha_pattern": {"q_proj": 4}, "trainable_token_indices": [1], "target_parameters": ["experts.gate_up_proj"],
    "lora_bias": True, "use_dora": True, "use_bdlora": {"nblocks": 2}, "use_qalora": True,
    "velora_config": {"num_groups": 64}, "monteclora_config": {"num_samples": 8}, "layer_replication": [[0, 2], [1, 3]],
    "kasa_config": {"beta": 1e-4}, "arrow_config": {"top_k": 3}, "alora_invocation_tokens": [7, 8],
    "megatron_config": {"hidden_size": 8}, "enable_lora": [True, False, True],
}  # fmt: skip


def judged(**keys: Any) -> list[str]:
    return [one.key for one in not_plain({"peft_type": "LORA", "r": 8, "lora_alpha": 16} | keys)]


def test_every_key_of_the_installed_peft_is_judged() -> None:
    """A new version of PEFT with a new key fails here, until the key is on the list."""
    from peft import LoraConfig

    keys = {one.name for one in dataclasses.fields(LoraConfig)}
    assert keys - set(RULES) == {"init_lora_weights"}


def test_what_peft_writes_by_default_is_plain() -> None:
    from peft import LoraConfig

    assert not_plain(LoraConfig(target_modules=["q_proj"]).to_dict()) == ()
    assert not_plain(OLD) == ()


def test_every_variant_of_the_installed_peft_is_refused_by_its_key() -> None:
    from peft import LoraConfig

    variants = [one.name for one in dataclasses.fields(LoraConfig) if one.metadata.get("is_lora_variant")]
    assert len(variants) > 5
    for key in variants:
        assert judged(**{key: NOT_NEUTRAL[key]}) == [key]


@pytest.mark.parametrize("key", NOT_NEUTRAL)
def test_other_values_are_refused_by_the_key_and_the_value(key: str) -> None:
    [found] = not_plain({"peft_type": "LORA", "r": 8, "lora_alpha": 16, key: NOT_NEUTRAL[key]})
    assert str(found).startswith(f"`{key}` is ") and found.meaning and found.hint
    neutral = {"task_type": "CAUSAL_LM", "bias": "none"}.get(key)
    assert judged(**{key: neutral}) == []


def test_patterns_that_change_no_module_are_plain() -> None:
    assert judged(rank_pattern={"q_proj": 8}, alpha_pattern={"layers.0.self_attn.q_proj": 16.0}) == []
    assert judged(rank_pattern={"q_proj": 8, "k_proj": 16}) == ["rank_pattern"]


@pytest.mark.parametrize("value", [None, False, "", [], {}])
def test_an_unknown_key_that_is_empty_changes_nothing(value: Any) -> None:
    assert judged(use_tomorrows_variant=value) == []


@pytest.mark.parametrize("value", [True, 1, 0.5, "yes", [0], {"k": None}])
def test_an_unknown_key_with_a_value_is_refused_by_its_name(value: Any) -> None:
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "use_tomorrows_variant": value}
    [found] = not_plain(config)
    assert "`use_tomorrows_variant` is" in str(found) and not found.opens
    assert unopenable(config) == (found,)
    assert unopenable(config | {"peft_type": "IA3"}) == ()  # the keys of another kind are PEFT's to judge


def test_every_initialization_of_the_installed_peft_is_judged() -> None:
    from peft import LoraConfig

    names = {name for one in get_args(get_type_hints(LoraConfig)["init_lora_weights"]) for name in get_args(one)}
    assert {"gaussian", "pissa", "eva"} <= names
    for name in [*names, "lora_ga"]:
        value = re.sub(r"\[.*\]", "4", name)
        found = not_plain({"init_lora_weights": value})
        assert not found or "knows no such" not in found[0].meaning, name


@pytest.mark.parametrize("value", [True, False, None, "gaussian", "Gaussian", "eva", "orthogonal"])
def test_initializations_that_leave_the_base_as_it_is_are_plain(value: Any) -> None:
    assert judged(init_lora_weights=value) == []


@pytest.mark.parametrize("value", ["pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "loftq", "lora_ga"])
def test_initializations_that_change_the_base_are_refused(value: str) -> None:
    [found] = unopenable({"peft_type": "LORA", "init_lora_weights": value})
    assert repr(value) in str(found) and "a base whose weights were changed" in str(found)
    assert "path_initial_model_for_weight_conversion" in found.hint


@pytest.mark.parametrize("value", ["EVA", "Pissa2", "random", 1.5])
def test_an_initialization_that_peft_does_not_know_is_refused(value: Any) -> None:
    assert judged(init_lora_weights=value) == ["init_lora_weights"]


def test_the_kind_is_the_one_that_peft_names() -> None:
    from peft import PeftType

    assert [kind_of({"peft_type": kind.value}) for kind in PeftType] == [kind.value for kind in PeftType]
    assert kind_of({}) == ""
