"""Faults planted in copies of bases: each is refused from the files alone, and again by the report of the loading."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from damaged_bases import (
    WEIGHTS,
    Weights,
    added,
    change_config,
    change_weights,
    copied,
    renamed,
    without,
)
from safetensors.torch import load_file
from tiny_families import TINY, TINY_VISION, write_base, write_vision_base

from trainables.errors import UserError
from trainables.mini import BASE_DIRECTORY as PICTURES
from trainables.mini.text import BASE_DIRECTORY as TEXT
from trainables.model.base import load_base
from trainables.model.families import family_of
from trainables.model.loading import load_model, report_of
from trainables.model.stored_base import StoredBase, read_base
from trainables.model.weight_report import check_report

CPU = torch.device("cpu")
LAYER_2 = "layers.2."
PEFT = "base_model.model."


def wider(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: {**weights, name: torch.cat([weights[name]] * 2)}


def extra_layer(weights: Weights) -> Weights:
    copies = {name.replace(LAYER_2, "layers.6."): one for name, one in weights.items() if LAYER_2 in name}
    return {**weights, **copies}


def second_copy(weights: Weights) -> Weights:
    return {**weights, **{name.removeprefix("model."): one.clone() for name, one in weights.items() if LAYER_2 in name}}


# what is wrong with the weights, and what the message says
FAULTS: dict[str, tuple[Callable[[Weights], Weights], str]] = {
    "a layer is missing": (without(LAYER_2), "the weights in {base} lack number 2"),
    "the last layer is missing": (without("layers.5."), "lack number 5"),
    "a layer too many": (extra_layer, "also have number 6"),
    "a norm is missing": (without("layers.1.input_layernorm"), "it has no `model.layers.1.input_layernorm.weight`"),
    "a bias is missing": (without("layers.0.self_attn.q_proj.bias"), "it has no `model.layers.0.self_attn.q_proj."),
    "the embedding is missing": (without("embed_tokens"), "it has no `lm_head.weight`, `model.embed_tokens.weight`"),
    "a linear of another width": (wider("model.layers.3.mlp.up_proj.weight"), "is [384, 128] and not [192, 128]"),
    "an embedding of more rows": (wider("model.embed_tokens.weight"), "`model.embed_tokens.weight` is [1794, 128]"),
    "names of a PEFT model": (renamed(lambda name: PEFT + name), "names of PEFT: `base_model.model.model."),
    "names of wrapped layers": (
        renamed(lambda name: name.replace("q_proj.", "q_proj.base_layer.")), "names of PEFT: `model.layers.0.self"),
    "LoRA's own weights": (
        added({"model.layers.0.mlp.up_proj.lora_A.weight": torch.ones(4, 128)}), "names of PEFT: `model.layers.0.mlp."),
    "names of a compiled model": (renamed(lambda name: f"_orig_mod.{name}"), "lack number 0, 1, 2 and 3 more"),
    "a head for classes": (added({"score.weight": torch.ones(2, 128)}), "the model has no place for `score.weight`"),
    "a bias too many": (
        added({"model.layers.0.mlp.up_proj.bias": torch.ones(192)}), "no place for `model.layers.0.mlp.up_proj"),
    "a layer twice": (second_copy, "every weight once, but {base} has `layers.2.input_layernorm.weight` and `m"),
}  # fmt: skip


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return copied(TEXT, tmp_path)


def refused(base: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        read_base(base)
    return caught.value


def unchecked(base: Path, quantization: Any = "none") -> StoredBase:
    """Return a base as if its files had passed the check."""
    family, config = family_of(base)
    return StoredBase(base, family, config, {}, quantization)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_base_with_wrong_weights_is_refused_from_its_headers(fault: str, base: Path) -> None:
    change, message = FAULTS[fault]
    change_weights(base, change)
    error = refused(base)
    assert message.format(base=base) in error.message, error.message
    assert str(base) in error.message
    assert error.hint


@pytest.mark.parametrize("fault", sorted({*FAULTS} - {"a layer twice"}))  # transformers takes the first without a word
def test_a_base_with_wrong_weights_is_refused_by_the_report_of_its_loading(fault: str, base: Path) -> None:
    change_weights(base, FAULTS[fault][0])
    with pytest.raises(UserError, match=r"must hold the weights that config\.json describes"):
        load_model(unchecked(base), "none", torch.float32, CPU)


@pytest.mark.parametrize(
    "part", ["visual.blocks.1.", "visual.pos_embed", "deepstack_merger_list.0.norm", "merger.linear_fc2.bias"]
)
def test_a_missing_weight_of_the_vision_tower_is_refused(part: str, tmp_path: Path) -> None:
    change_weights(base := copied(PICTURES, tmp_path), without(part))
    assert "vision tower" in refused(base).message or part in refused(base).message


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size"])
def test_a_configuration_that_lacks_a_size_is_refused(key: str, base: Path) -> None:
    change_config(base, **{key: None})
    error = refused(base)
    assert error.message == f"{base}/config.json: must give the depths and widths of the model, but `{key}` is missing"


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_hidden_layers", 3), ("num_hidden_layers", 7), ("vocab_size", 900), ("num_key_value_heads", 1)],
)
def test_a_configuration_of_another_size_is_refused(key: str, value: int, base: Path) -> None:
    change_config(base, **{key: value})
    refused(base)
    with pytest.raises(UserError, match=r"config\.json"):
        load_model(unchecked(base), "none", torch.float32, CPU)


# ---------------------------------------------------------------- head and embedding
def with_head(base: Path, **changes: Any) -> None:
    head = load_file(base / WEIGHTS)["model.embed_tokens.weight"].clone()
    if changes.pop("differs", False):
        head[-1, -1] += 1
    change_weights(base, added({"lm_head.weight": head}))


def test_a_base_without_its_head_is_refused_unless_it_is_tied(base: Path) -> None:
    read_base(base)
    change_config(base, tie_word_embeddings=False)
    assert "it has no `lm_head.weight`" in refused(base).message
    with pytest.raises(UserError, match=r"it has no `lm_head\.weight`"):
        load_model(unchecked(base), "none", torch.float32, CPU)


def test_a_tied_head_may_be_stored_if_it_equals_the_embedding(base: Path) -> None:
    with_head(base)
    read_base(base)
    load_base(base, "none", "float32", CPU)


def test_a_tied_base_may_hold_its_head_alone(base: Path) -> None:
    change_weights(base, renamed(lambda name: name.replace("model.embed_tokens", "lm_head")))
    assert read_base(base).embedding_rows == 897
    load_base(base, "none", "float32", CPU)


def test_a_head_that_differs_from_the_embedding_it_is_tied_to_is_refused(base: Path) -> None:
    with_head(base, differs=True)
    error = refused(base)
    assert "`lm_head.weight` and `model.embed_tokens.weight` differ" in error.message
    with pytest.raises(UserError, match="two different weights"):  # transformers loads both and does not tie them
        load_model(unchecked(base), "none", torch.float32, CPU)
    change_config(base, tie_word_embeddings=False)  # the hint
    load_base(base, "none", "float32", CPU)


# ---------------------------------------------------------------- what a base may hold
@pytest.mark.parametrize(
    "name", ["model.layers.0.self_attn.rotary_emb.inv_freq", "mtp.layers.0.norm.weight", "mtp.fc.weight"]
)
def test_weights_that_the_family_lists_are_ignored(name: str, base: Path) -> None:
    change_weights(base, added({name: torch.ones(8)}))
    read_base(base)
    load_base(base, "none", "float32", CPU)


NAMES: dict[str, Callable[[str], str]] = {
    "as saved": lambda name: name,
    "without the prefix": lambda name: name.removeprefix("model."),
    "with a second prefix": lambda name: f"model.{name}",
    "visual at the top": lambda name: name.removeprefix("model.") if "visual" in name else name,
    "as released": lambda name: NAMES["visual at the top"](name).replace("language_model.", ""),
    "in a language model": lambda name: f"language_model.{name}",
    "prefix at the end": lambda name: name.replace("model.language_model.", "language_model.model."),
    "as released by Mistral": lambda name: f"language_model.{name}" if name.startswith("lm_head.") else (
        NAMES["prefix at the end"](name).removeprefix("model.")),
}  # fmt: skip
RELEASED = {"mistral3": "as released by Mistral", "qwen3_vl": "as saved"}


@pytest.fixture(scope="module")
def tiny_bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    at = tmp_path_factory.mktemp("bases")
    return {family: (write_base if family in TINY else write_vision_base)(family, at / family)
            for family in (*TINY, *TINY_VISION)}  # fmt: skip


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("family", [*TINY, *TINY_VISION])
def test_the_names_that_are_accepted_are_those_that_transformers_loads(
    family: str, names: str, tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    base = copied(tiny_bases[family], tmp_path)
    change_weights(base, renamed(NAMES[names]))
    found, _ = family_of(base)
    _, report = getattr(transformers, found.model_class).from_pretrained(base, output_loading_info=True)
    assert is_refused(lambda: read_base(base)) is is_refused(lambda: check_report(base, found, report_of(report)))
    if names in ("as saved", RELEASED.get(family, "as released")):
        read_base(base)


@pytest.mark.parametrize("family", ["phi3", "glm4", "smollm3", "mistral3"])
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_hidden_layers": 3}, "also have number 3"),
        ({"num_hidden_layers": 5}, "lack number 4"),
        ({"intermediate_size": 64}, "] and not ["),
        ({"num_key_value_heads": 4}, "] and not ["),
        ({"tie_word_embeddings": True}, "differ"),
    ],
)
def test_a_config_that_contradicts_its_weights_is_refused(
    family: str, changes: dict[str, Any], expected: str, tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    base = copied(tiny_bases[family], tmp_path)
    config = json.loads((base / "config.json").read_text())
    if family == "smollm3" and "tie_word_embeddings" in changes:
        change_weights(base, added({"lm_head.weight": torch.zeros(config["vocab_size"], config["hidden_size"])}))
    if "text_config" in config and "tie_word_embeddings" not in changes:
        changes = {"text_config": {**config["text_config"], **changes}}
    change_config(base, no_rope_layers=None, **changes)  # which SmolLM3 derives from the depth
    assert expected in refused(base).message


def test_layers_with_positions_must_be_said_for_every_layer(tiny_bases: dict[str, Path], tmp_path: Path) -> None:
    base = copied(tiny_bases["smollm3"], tmp_path)
    change_config(base, no_rope_layers=[1, 0, 1])
    assert "`no_rope_layers` must have an entry for each of 4 layers, but has 3" in refused(base).message


def test_the_head_of_a_mistral3_is_its_own_unless_config_json_ties_it(
    tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    """Mistral Small 3.1 says nothing of it, and transformers' default is tied; Ministral 3 says it of its decoder."""
    base = copied(tiny_bases["mistral3"], tmp_path)
    text = json.loads((base / "config.json").read_text())["text_config"]
    del text["tie_word_embeddings"]
    change_config(base, tie_word_embeddings=None, text_config=text)
    loaded = load_base(base, "none", "float32", CPU).model
    assert loaded.lm_head.weight is not loaded.model.language_model.embed_tokens.weight
    change_config(base, text_config={**text, "tie_word_embeddings": True})
    assert "differ" in refused(base).message
    change_weights(base, without("lm_head."))
    loaded = load_base(base, "none", "float32", CPU).model
    assert loaded.lm_head.weight is loaded.model.language_model.embed_tokens.weight


def is_refused(check: Callable[[], object]) -> bool:
    try:
        check()
    except UserError:
        return True
    return False


# ---------------------------------------------------------------- what is loaded
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("quantization", ["none", "nf4-double", "int8"])
def test_weights_that_are_not_finite_are_refused(value: float, quantization: Any, base: Path) -> None:
    def spoil(weights: Weights) -> Weights:
        weights["model.layers.1.post_attention_layernorm.weight"][3] = value
        return weights

    change_weights(base, spoil)
    with pytest.raises(UserError, match=r"must be finite, but .* `model\.layers\.1\.post_attention_layernorm\.weight`"):
        load_base(base, quantization, "float32", CPU)


@pytest.mark.parametrize("quantization", ["nf4", "nf4-double", "fp4", "int8"])
def test_a_linear_that_is_not_finite_is_seen_through_its_scales(quantization: Any, base: Path) -> None:
    def spoil(weights: Weights) -> Weights:
        weights["model.layers.1.mlp.up_proj.weight"][3, 3] = float("nan")
        return weights

    change_weights(base, spoil)
    with pytest.raises(UserError, match=r"`model\.layers\.1\.mlp\.up_proj\.weight`"):
        load_base(base, quantization, "float32", CPU)


def test_large_finite_weights_are_accepted(base: Path) -> None:
    def enlarge(weights: Weights) -> Weights:
        return {**weights, "model.norm.weight": torch.full((128,), 3e38)}  # the sum is infinite

    change_weights(base, enlarge)
    load_base(base, "none", "float32", CPU)


def test_the_check_of_a_base_loads_no_torch() -> None:
    script = (
        "import sys, pathlib; from trainables.model.stored_base import read_base;"
        f"read_base(pathlib.Path({str(PICTURES)!r})); print({{'torch', 'transformers'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
