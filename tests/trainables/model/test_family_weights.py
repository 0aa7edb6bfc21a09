"""The weights that a family's file computes are those of the class in transformers, with every setting."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import transformers
from tiny_families import TINY, TINY_VISION, tiny_config, tiny_vision_config

from trainables.model.families import FAMILIES
from trainables.model.families.family import Shapes

HEAD = "lm_head.weight"
TEXT_VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"attention_bias": True},
    {"mlp_bias": True},
    {"tie_word_embeddings": True},
    {"tie_word_embeddings": False},
    {"num_key_value_heads": 4, "num_hidden_layers": 3},
    {"head_dim": 8},
)


def shapes_of(family: str, config: Any) -> Shapes:
    """Build the class in transformers without weights; of tied weights the state has both names."""
    with torch.device("meta"):
        model = getattr(transformers, FAMILIES[family].model_class)(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def written(config: Any) -> dict[str, Any]:
    return json.loads(config.to_json_string(use_diff=True))


@pytest.mark.parametrize("changes", TEXT_VARIANTS, ids=str)
@pytest.mark.parametrize("family", TINY)
def test_text_families_compute_the_weights_of_transformers(family: str, changes: dict[str, Any]) -> None:
    config = tiny_config(family)
    for part in (config, config.get_text_config()):
        part.update({key: value for key, value in changes.items() if hasattr(part, key)})
    assert FAMILIES[family].weights(written(config)) == shapes_of(family, config)
    assert FAMILIES[family].is_tied(written(config)) is bool(config.tie_word_embeddings)


@pytest.mark.parametrize(
    "vision",
    [{}, {"depth": 3}, {"patch_size": 4, "temporal_patch_size": 1}, {"spatial_merge_size": 1}, {"in_channels": 1}],
    ids=str,
)
@pytest.mark.parametrize("family", TINY_VISION)
def test_vision_families_compute_the_weights_of_transformers(family: str, vision: dict[str, Any]) -> None:
    config = tiny_vision_config(family, attention_bias=True)
    config.vision_config.update(vision)
    assert FAMILIES[family].weights(written(config)) == shapes_of(family, config)


@pytest.mark.parametrize("family", TINY_VISION)
@pytest.mark.parametrize(("top", "text"), [(True, True), (False, False), (True, False), (False, True)])
def test_whether_a_vision_family_is_tied_is_read_as_transformers_reads_it(family: str, top: bool, text: bool) -> None:
    values = written(tiny_vision_config(family))
    values["tie_word_embeddings"], values["text_config"]["tie_word_embeddings"] = top, text
    read = transformers.AutoConfig.for_model(**values)
    with torch.device("meta"):
        model = getattr(transformers, FAMILIES[family].model_class)(read)
    assert FAMILIES[family].is_tied(values) is (HEAD in model.all_tied_weights_keys)


# as published: the decoder's values at the top level, `in_chans`, defaults left out
PUBLISHED = {
    "qwen2_vl": {
        "model_type": "qwen2_vl", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 2,
        "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "vision_config": {"depth": 2, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "in_chans": 3,
                          "hidden_size": 1536, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14,
                          "temporal_patch_size": 2},
    },
    "qwen2_5_vl": {
        "model_type": "qwen2_5_vl", "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 2,
        "num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "vision_config": {"depth": 2, "hidden_act": "silu", "hidden_size": 1280, "intermediate_size": 3420,
                          "num_heads": 16, "in_chans": 3, "out_hidden_size": 2048, "patch_size": 14,
                          "spatial_merge_size": 2, "spatial_patch_size": 14, "window_size": 112,
                          "fullatt_block_indexes": [1], "tokens_per_second": 2, "temporal_patch_size": 2},
    },
}  # fmt: skip


@pytest.mark.parametrize("family", PUBLISHED)
def test_configurations_as_published_give_the_weights_of_transformers(family: str) -> None:
    config = transformers.AutoConfig.for_model(**PUBLISHED[family])
    assert FAMILIES[family].weights(PUBLISHED[family]) == shapes_of(family, config)
    assert FAMILIES[family].is_tied(PUBLISHED[family])
