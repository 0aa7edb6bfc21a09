"""Tests bases with experts against transformers and PEFT: their files, their refusals, and LoRA on either part."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import packed
import peft
import pytest
import torch
import transformers
from peft.tuners.lora.layer import ParamWrapper
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_trials import ANYTHING_GOES, Sources, SpecMaker, assert_same_outcome, opened, train_to, whole_run
from tiny_families import (
    TINY_EXPERTS,
    TINY_SEEING,
    TINY_VISION_EXPERTS,
    picture_sources,
    text_sources,
    tiny_config,
    tiny_vision_config,
    write_base,
    write_vision_base,
)

from sweeps.planning.base_checks import check_base
from trainables.checkpoints.adapter import read_adapter
from trainables.checkpoints.verification import verify
from trainables.cohort.opening import open_cohort
from trainables.cohort.sequential import SequentialCohort
from trainables.constraint import TextConstraint
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.health.monitor import update_norm
from trainables.model.base import Base, load_base
from trainables.model.families import FAMILIES
from trainables.model.lora import Adapter, PlacementMismatch, place
from trainables.model.placement import resolve
from trainables.model.stored_base import read_base
from trainables.probes.probe import Baseline
from trainables.record import Record
from trainables.spec import Placement, TrialSpec
from trainables.training.trial import open_trial

WITH_EXPERTS = (*TINY_EXPERTS, *TINY_VISION_EXPERTS)
ANY_TEXT = TextConstraint(max_text_retention_drop=1.0)
ON_EXPERTS: dict[str, Any] = {"target_modules": ("experts",), "dropout": 0.0, "placement": Placement(language=2)}
SourcesOf = Callable[[str], Sources]
families = pytest.mark.parametrize("family", WITH_EXPERTS)


@pytest.fixture(scope="module")
def sources_of(tmp_path_factory: pytest.TempPathFactory, sources: Sources) -> SourcesOf:
    """Make the tiny base of a family, and rows for it, once."""
    made: dict[str, Sources] = {}

    def make(family: str) -> Sources:
        if family not in made:
            at = tmp_path_factory.mktemp(family)
            if family in TINY_SEEING:
                made[family] = picture_sources(at, write_vision_base(family, at / "base"), sources)
            else:
                made[family] = text_sources(at, write_base(family, at / "base"))
        return made[family]

    return make


def config_of(family: str) -> Any:
    return tiny_vision_config(family) if family in TINY_SEEING else tiny_config(family)


def towers_of(family: str, config: Any) -> Any:
    return FAMILIES[family].towers(json.loads(config.to_json_string(use_diff=True)))


def meta(family: str, config: Any) -> Any:
    with torch.device("meta"):
        return getattr(transformers, FAMILIES[family].model_class)(config)


# -------------------------------------------------------------------- weights
@families
@pytest.mark.parametrize(
    "changes",
    [{}, {"mlp_only_layers": [0, 3]}, {"decoder_sparse_step": 2}, {"attention_bias": True}, {"num_hidden_layers": 3},
     {"num_experts": 3}],
    ids=str,
)  # fmt: skip
def test_weights_are_those_of_transformers(family: str, changes: dict[str, Any]) -> None:
    config = config_of(family)
    text = config.get_text_config()
    text.update({key: value for key, value in changes.items() if hasattr(text, key)})
    shapes = {name: tuple(tensor.shape) for name, tensor in meta(family, config).state_dict().items()}
    assert FAMILIES[family].weights(json.loads(config.to_json_string(use_diff=True))) == shapes
    assert FAMILIES[family].experts(json.loads(config.to_json_string(use_diff=True))).items() <= shapes.items()


def stored(base: Path) -> dict[str, torch.Tensor]:
    return load_file(base / "model.safetensors")


def with_weights(base: Path, directory: Path, weights: dict[str, torch.Tensor]) -> Path:
    shutil.copytree(base, directory)
    save_file({name: one.contiguous() for name, one in weights.items()}, directory / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    return directory


def loaded(base: Path) -> Base:
    return load_base(base, "none", "float32", torch.device("cpu"))


def assert_same_model(one: Base, other: Base) -> None:
    own, theirs = one.model.state_dict(), other.model.state_dict()
    assert own.keys() == theirs.keys()
    assert [name for name in own if not torch.equal(own[name], theirs[name])] == []


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("qwen3_moe", "model.layers.1.mlp.experts.3.up_proj.weight"),
        ("mixtral", "model.layers.0.block_sparse_moe.experts.0.w2.weight"),
    ],
)
def test_an_expert_that_is_missing_is_named_before_anything_is_loaded(
    family: str, name: str, sources_of: SourcesOf, tmp_path: Path
) -> None:
    weights = stored(sources_of(family).base.path)
    del weights[name]
    own = name.replace("block_sparse_moe", "mlp")
    with pytest.raises(UserError, match=f"it has no `{own}`"):
        read_base(with_weights(sources_of(family).base.path, tmp_path / "base", weights))


def test_an_expert_too_many_or_of_another_shape_is_named(sources_of: SourcesOf, tmp_path: Path) -> None:
    base = sources_of("qwen3_moe").base.path
    at = "model.layers.2.mlp.experts"
    more = {**stored(base), f"{at}.4.up_proj.weight": torch.zeros(48, 64)}
    with pytest.raises(UserError, match=f"the model has no place for `{at}.4.up_proj.weight`"):
        read_base(with_weights(base, tmp_path / "more", more))
    thin = {**stored(base), f"{at}.0.up_proj.weight": torch.zeros(32, 64)}
    with pytest.raises(UserError, match=rf"`{at}.0.up_proj.weight` is \[32, 64\] and not \[48, 64\]"):
        read_base(with_weights(base, tmp_path / "thin", thin))
    both = {**stored(base), f"{at}.down_proj": torch.zeros(4, 64, 48)}
    with pytest.raises(UserError, match=f"the model has no place for `{at}.down_proj`"):
        read_base(with_weights(base, tmp_path / "both", both))


@families
def test_experts_may_be_stored_as_the_model_holds_them(family: str, sources_of: SourcesOf, tmp_path: Path) -> None:
    base = sources_of(family).base.path
    whole = loaded(base)
    weights = {name: tensor.clone() for name, tensor in whole.model.state_dict().items()}
    if whole.family.is_tied(read_base(base).config):
        del weights["lm_head.weight"]
    assert_same_model(loaded(with_weights(base, tmp_path / "fused", weights)), whole)


def test_published_experts_of_qwen3_vl_moe_are_transposed(sources_of: SourcesOf, tmp_path: Path) -> None:
    base = sources_of("qwen3_vl_moe").base.path
    whole = loaded(base)
    weights = {
        name: tensor.transpose(1, 2).clone() if ".experts." in name else tensor.clone()
        for name, tensor in whole.model.state_dict().items()
        if name != "lm_head.weight"
    }
    published = with_weights(base, tmp_path / "published", weights)
    assert_same_model(loaded(published), whole)


def test_a_square_expert_in_the_published_layout_is_refused_for_transformers_would_not_turn_it(tmp_path: Path) -> None:
    config = tiny_vision_config("qwen3_vl_moe", moe_intermediate_size=32)  # 2 x 32 are as wide as the model
    base = tmp_path / "base"
    transformers.Qwen3VLMoeForConditionalGeneration(config).save_pretrained(base)
    weights = {k: v.transpose(1, 2) if ".experts." in k else v for k, v in stored(base).items()}
    with pytest.raises(UserError, match=r"down_proj` is \[4, 32, 64\] and not \[4, 64, 32\]"):
        read_base(with_weights(base, tmp_path / "published", weights))


# -------------------------------------------------------------------- quantization
@families
@pytest.mark.parametrize("quantization", ["int8", "fp4", "nf4", "nf4-double"])
def test_a_base_with_experts_is_never_quantized(family: str, quantization: Any, sources_of: SourcesOf) -> None:
    spec = sources_of(family).spec(quantization=quantization)
    model = meta(family, transformers.AutoConfig.from_pretrained(spec.base.path))
    model.tie_weights()
    experts = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
    every = sum(p.numel() for p in model.parameters())
    with pytest.raises(UserError, match=f"{experts / every:.1%} of the weights") as output:
        check_base([spec])
    assert f"({experts:,} of {every:,})" in output.value.message
    assert (output.value.hint or "").startswith("--quant none")
    with pytest.raises(UserError, match="must be loaded unquantized"):
        load_base(spec.base.path, quantization, "float32", torch.device("cpu"))
    check_base([spec.model_copy(update={"quantization": "none"})])


# -------------------------------------------------------------------- placement
@families
def test_lora_goes_on_attention_and_on_no_router(family: str) -> None:
    config = config_of(family)
    resolved = resolve(Placement(language=2), towers_of(family, config))
    assert {name.rsplit(".", 1)[1] for name in resolved.module_names} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    with torch.device("meta"):
        theirs = peft.get_peft_model(
            meta(family, config), peft.LoraConfig(r=4, target_modules=list(resolved.module_names))
        )
    assert resolved.total_parameters(4) == theirs.get_nb_trainable_parameters()[0]
    trained = [name for name, p in theirs.named_parameters() if p.requires_grad]
    assert not [name for name in trained if ".mlp." in name]


@families
@pytest.mark.parametrize("rank", [1, 6])
def test_experts_are_counted_as_peft_counts_them(family: str, rank: int) -> None:
    config = config_of(family)
    resolved = resolve(Placement(language=3), towers_of(family, config), ("experts",))
    with torch.device("meta"):
        settings = peft.LoraConfig(r=rank, target_modules=[], target_parameters=list(resolved.module_names))
        theirs = peft.get_peft_model(meta(family, config), settings)
    assert resolved.total_parameters(rank) == theirs.get_nb_trainable_parameters()[0]
    assert resolved.total_parameters(rank) > 0


def test_what_experts_cannot_be_placed_with_is_refused(make_spec: SpecMaker) -> None:
    towers = towers_of("qwen3_vl_moe", config_of("qwen3_vl_moe"))
    with pytest.raises(UserError, match="on experts alone, but L2-V1 also asks for vision blocks"):
        resolve(Placement(language=2, vision=1), towers, ("experts",))
    with pytest.raises(UserError, match="needs a base with experts, but the layers of this base are dense"):
        resolve(Placement(language=2), dict(towers), ("experts",))
    dense = tiny_config("qwen3_moe")
    dense.mlp_only_layers = [3]
    with pytest.raises(UserError, match="a placed layer with experts, but those of L1-V0 are dense"):
        resolve(Placement(language=1), towers_of("qwen3_moe", dense), ("experts",))
    with pytest.raises(ValueError, match=r"alone, or names of linears, but got experts\+q_proj"):
        make_spec(target_modules=("experts", "q_proj"), dropout=0.0)
    with pytest.raises(ValueError, match=r"dropout must be 0 on experts, as PEFT requires, but got 0\.1"):
        make_spec(target_modules=("experts",), dropout=0.1)


# -------------------------------------------------------------------- adapters
def placed(engine: Engine, spec: TrialSpec) -> Adapter:
    return place(engine.base, spec, resolve(spec.placement, engine.base.towers, spec.target_modules))


@torch.no_grad()
def shake(adapter: Adapter) -> None:
    generator = torch.Generator().manual_seed(5)
    for _, parameter in adapter.trained():
        parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=torch.tensor([[3, 9, 4, 1, 7, 12]])).logits


@families
@pytest.mark.parametrize("changes", [{}, ON_EXPERTS], ids=["attention", "experts"])
def test_a_saved_adapter_is_the_one_that_peft_loads(
    family: str, changes: dict[str, Any], sources_of: SourcesOf, tmp_path: Path
) -> None:
    spec = sources_of(family).spec(**{"placement": Placement(language=2), "dropout": 0.0, **changes})
    engine = packed.plain_engine(sources_of(family))
    bare = logits(engine.base.model)
    adapter = placed(engine, spec)
    assert torch.equal(logits(adapter.peft_model), bare)
    shake(adapter)
    own = logits(adapter.peft_model)
    adapter.save(tmp_path)
    adapter.remove()
    assert torch.equal(logits(engine.base.model), bare)
    assert not torch.allclose(own, bare, atol=1e-3)
    fresh = loaded(spec.base.path).model
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        theirs = peft.PeftModel.from_pretrained(fresh, str(tmp_path))
    assert not [one for one in warned if "adapter keys" in str(one.message)]
    with safe_open(str(tmp_path / "adapter_model.safetensors"), framework="pt") as file:
        assert set(file.keys()) == set(peft.get_peft_model_state_dict(theirs))
    assert torch.allclose(logits(theirs), own, atol=1e-6)
    again = placed(engine, spec)
    again.load(tmp_path)
    assert torch.equal(logits(again.peft_model), own)
    again.remove()
    merged = theirs.merge_and_unload()  # what the refusal of a continued adapter on experts says to do
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]
    assert torch.allclose(logits(merged), own, atol=1e-5)


def test_the_update_norm_of_experts_is_that_of_what_peft_adds(sources_of: SourcesOf) -> None:
    engine = packed.plain_engine(sources_of("mixtral"))
    adapter = placed(engine, sources_of("mixtral").spec(**ON_EXPERTS))
    shake(adapter)
    wrapped = [module for module in adapter.peft_model.modules() if isinstance(module, ParamWrapper)]
    deltas = [module.get_delta_weight("default").detach() for module in wrapped]
    norm = float(torch.stack([one.square().sum() for one in deltas]).sum().sqrt())
    assert update_norm(adapter, "language") == pytest.approx(norm, rel=1e-5)
    adapter.remove()


def test_a_smaller_rank_begins_as_the_first_rows_of_a_larger_one_for_every_expert(sources_of: SourcesOf) -> None:
    engine, first = packed.plain_engine(sources_of("mixtral")), {}
    for rank in (2, 5):
        adapter = placed(engine, sources_of("mixtral").spec(**ON_EXPERTS, rank=rank))
        first[rank] = {name: a.clone() for name, (a, _) in adapter.factors("language").items()}
        adapter.remove()
    assert len(first[2]) == 2 * 2 * 4  # layers x parameters x experts
    assert all(torch.equal(first[2][name], first[5][name][:2]) for name in first[2])


def test_a_placement_that_peft_does_not_follow_is_detected(
    sources_of: SourcesOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = packed.plain_engine(sources_of("mixtral"))
    original = peft.LoraConfig

    def first_parameter_only(**given: Any) -> Any:
        return original(**{**given, "target_parameters": given["target_parameters"][:1]})

    monkeypatch.setattr("trainables.model.lora.LoraConfig", first_parameter_only)
    with pytest.raises(PlacementMismatch, match="missing"):
        placed(engine, sources_of("mixtral").spec(**ON_EXPERTS))


# -------------------------------------------------------------------- trials
def baseline_of(engine: Engine) -> Baseline:
    return Baseline(engine.evaluator.measure(None)[0].metrics, {})


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        pytest.param("qwen3_moe", {"placement": Placement(language=2)}, id="attention"),
        pytest.param("mixtral", ON_EXPERTS, id="experts"),
        pytest.param("qwen3_moe", ON_EXPERTS, id="qwen-experts", marks=pytest.mark.slow),
        pytest.param("qwen3_vl_moe", {"placement": Placement(language=2, vision=3)}, id="vision",
                     marks=pytest.mark.slow),
        pytest.param("qwen3_vl_moe", ON_EXPERTS, id="vision-experts", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_trial_trains_and_its_adapter_passes_verification(
    family: str, changes: dict[str, Any], sources_of: SourcesOf, tmp_path: Path
) -> None:
    engine, spec = packed.plain_engine(sources_of(family)), sources_of(family).spec(**changes)
    constraint = ANYTHING_GOES if engine.base.family.sees else ANY_TEXT
    seen = engine.base.family.sees
    baseline = packed.short_baseline(packed.plain_engine, sources_of(family)) if seen else baseline_of(engine)
    record = whole_run(engine, spec, tmp_path / "trial", baseline, constraint=constraint)
    assert str(record.verdict()) == "completed"
    checked = verify(record.checkpoint(record.checkpoint_steps()[0]))
    assert [one.found for one in checked.checks if not one.passed] == []
    if spec.target_modules:
        with pytest.raises(UserError, match="adapts parameters that are not those of a linear layer"):
            read_adapter(record.checkpoint(record.checkpoint_steps()[0]))


@pytest.mark.parametrize("family", ["mixtral", pytest.param("qwen3_moe", marks=pytest.mark.slow)])
def test_an_interrupted_trial_on_experts_goes_on_as_if_it_were_not(
    family: str, sources_of: SourcesOf, tmp_path: Path
) -> None:
    engine, spec = packed.plain_engine(sources_of(family)), sources_of(family).spec(**ON_EXPERTS)
    baseline = baseline_of(engine)
    whole = whole_run(engine, spec, tmp_path / "whole", baseline, constraint=ANY_TEXT)
    with opened(engine, spec, tmp_path / "stopped", baseline, constraint=ANY_TEXT) as trial:
        train_to(trial, 3)
        assert trial.advance(lambda: True) is None
    assert Record(tmp_path / "stopped").checkpoint_steps()[0] == 3
    assert_same_outcome(whole_run(engine, spec, tmp_path / "stopped", baseline, constraint=ANY_TEXT), whole)


@pytest.mark.parametrize("family", ["mixtral"])
def test_trials_train_one_after_another_for_a_router_may_choose_otherwise_in_a_larger_pass(
    family: str, sources_of: SourcesOf, tmp_path: Path
) -> None:
    engine, sources = packed.plain_engine(sources_of(family)), sources_of(family)
    trials = []
    for name, changes in (("attention", {"placement": Placement(language=2)}), ("experts", ON_EXPERTS)):
        spec, record = sources.spec(name=name, **changes), Record(tmp_path / name)
        record.create(spec)
        trials.append(open_trial(engine, spec, record, baseline_of(engine), (), ANY_TEXT))
        trials[-1].adapter.remove()
    cohort = open_cohort(engine, trials)
    assert isinstance(cohort, SequentialCohort)
    ended: dict[str, Any] = {}
    for _ in range(4):
        ended |= cohort.advance(lambda: False)
    assert sorted(map(str, ended.values())) == ["completed", "completed"]
    alone = whole_run(engine, sources.spec(name="experts", **ON_EXPERTS), tmp_path / "alone", baseline_of(engine),
                      constraint=ANY_TEXT)  # fmt: skip
    step = alone.checkpoint_steps()[0]
    files = [one.checkpoint(step) / "adapter_model.safetensors" for one in (alone, trials[1].record)]
    assert files[0].read_bytes() == files[1].read_bytes()
