"""Opens adapters that PEFT saved as a trial does, and compares with PEFT; plants faults that PEFT does not report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from small_trials import Sources
from tiny_families import text_sources, write_base

from trainables.checkpoints.adapter import adapter_source, read_adapter
from trainables.checkpoints.compatibility import base_match, load_parent, read_parent
from trainables.checkpoints.verification import check_opens, verify
from trainables.errors import UserError
from trainables.model.families import family_of
from trainables.model.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from trainables.model.placement import resolve
from trainables.record import Record
from trainables.spec import Placement, TrialSpec

RANK, ALPHA, EQUAL = 4, 8, 1e-5
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Tensors = dict[str, Any]

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    directory = tmp_path_factory.mktemp("llama")
    return text_sources(directory, write_base("llama", directory / "base"))


@pytest.fixture(scope="module")
def plain(text: Sources, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain LoRA adapter on all linears of the four layers, as PEFT saves it."""
    directory = tmp_path_factory.mktemp("plain") / "adapter"
    saved_by_peft(text.base.path, directory)
    return directory


@pytest.fixture
def adapter(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "adapter"))


def model_of(base: Path) -> Any:
    import torch
    import transformers

    torch.set_num_threads(1)
    name = family_of(base)[0].model_class
    return getattr(transformers, name).from_pretrained(base, dtype=torch.float32)


def saved_by_peft(base: Path, directory: Path, save: Mapping[str, Any] | None = None, **changes: Any) -> None:
    """Save an adapter as PEFT does, moved as by training, on whatever base its initialization left."""
    import torch
    from peft import LoraConfig, get_peft_model

    settings: dict[str, Any] = {"r": RANK, "lora_alpha": ALPHA, "target_modules": LINEARS, "task_type": "CAUSAL_LM"}
    torch.manual_seed(0)
    model = get_peft_model(model_of(base), LoraConfig(**(settings | changes)))
    if save and "path_initial_model_for_weight_conversion" in save:  # as PEFT's examples do before training
        initial = Path(save["path_initial_model_for_weight_conversion"])
        kept, model.peft_config["default"].init_lora_weights = model.peft_config["default"].init_lora_weights, True
        model.save_pretrained(str(initial))
        model.peft_config["default"].init_lora_weights = kept
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(str(directory), **(save or {}))


def inputs(base: Path) -> dict[str, Any]:
    """Make token ids, and for a base that takes pictures one picture of 4 x 4 patches."""
    import torch

    family, config = family_of(base)
    if not family.sees:
        return {"input_ids": torch.arange(5, 25)[None]}
    picture = [config["vision_start_token_id"], *[config["image_token_id"]] * 4, config["vision_end_token_id"]]
    tokens = torch.tensor([[*range(300, 308), *picture, *range(310, 318)]])
    torch.manual_seed(1)
    size = config["vision_config"]["patch_size"]
    seen = {"pixel_values": torch.randn(16, 3 * 2 * size * size), "image_grid_thw": torch.tensor([[1, 4, 4]])}
    return {"input_ids": tokens, **seen, str(family.image_token_mask): (tokens == config["image_token_id"]).int()}


def logits_of_peft(base: Path, directory: Path) -> Any:
    import torch
    from peft import PeftModel

    with torch.no_grad():
        return PeftModel.from_pretrained(model_of(base), str(directory)).eval()(**inputs(base)).logits


def logits_of_trial(spec: TrialSpec, record: Record) -> Any:
    """Open the adapter as a trial that continues it does."""
    import torch

    from trainables.model.base import load_base
    from trainables.model.lora import place
    from trainables.model.optimizer import Optimizer

    base = load_base(spec.base.path, "none", "float32", torch.device("cpu"))
    trial = place(base, spec, resolve(spec.placement, base.towers, spec.target_modules))
    record.create(spec)
    assert spec.init_from
    load_parent(spec.init_from.path, spec, trial, Optimizer(trial, spec), record)
    with torch.no_grad():
        return trial.peft_model(**inputs(spec.base.path)).logits


def continuing(sources: Sources, directory: Path, **changes: Any) -> TrialSpec:
    settings = {"placement": Placement(language=4), "rank": RANK, "alpha": float(ALPHA)}
    return sources.spec(**(settings | changes), init_from=adapter_source(directory))


def configure(directory: Path, **changes: Any) -> None:
    path = directory / ADAPTER_CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite(directory: Path, change: Callable[[Tensors], Tensors]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = change(load_file(directory / ADAPTER_WEIGHTS))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / ADAPTER_WEIGHTS)


def renamed(old: str, new: str) -> Callable[[Path], None]:
    return lambda directory: rewrite(directory, lambda t: {name.replace(old, new): one for name, one in t.items()})


# -------------------------------------------------------------------- accepted
QUERIES: dict[str, Any] = {"target_modules": ["q_proj", "v_proj"]}
# what PEFT is given, and the settings of the trial that continues it
ACCEPTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "gaussian": ({"init_lora_weights": "gaussian"}, {}),
    "orthogonal": ({"init_lora_weights": "orthogonal"}, {}),
    "eva": ({"init_lora_weights": "eva"}, {}),
    "no initialization": ({"init_lora_weights": False}, {}),
    "rslora": ({"use_rslora": True}, {"rslora": True}),
    "fan_in_fan_out": ({"fan_in_fan_out": True}, {}),
    "equal patterns": ({"rank_pattern": {"q_proj": RANK}, "alpha_pattern": {"up_proj": ALPHA}}, {}),
    "expression": (
        {"target_modules": r"model\.layers\.\d\.self_attn\.[qv]_proj"},
        {"target_modules": ("q_proj", "v_proj")},
    ),
    "layers": (
        QUERIES | {"layers_to_transform": [2, 3]},
        {"placement": Placement(language=2), "target_modules": ("q_proj", "v_proj")},
    ),
    "excluded": (QUERIES | {"exclude_modules": r".*v_proj"}, {"target_modules": ("q_proj",)}),
    "all-linear": ({"target_modules": "all-linear"}, {}),
    "settings without effect": ({"qalora_group_size": 8, "megatron_core": "own", "revision": "main"}, {}),
    "embeddings saved": ({"save": {"save_embedding_layers": True}}, {}),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_an_opened_adapter_computes_what_peft_computes(kind: str, text: Sources, tmp_path: Path) -> None:
    peft, trial = ACCEPTED[kind]
    saved_by_peft(text.base.path, tmp_path / "adapter", **peft)
    spec = continuing(text, tmp_path / "adapter", **trial)
    differing = (
        logits_of_trial(spec, Record(tmp_path / "trial")) - logits_of_peft(text.base.path, tmp_path / "adapter")
    ).abs()
    assert float(differing.max()) < EQUAL
    assert verify(tmp_path / "adapter", text.base.path).passed


@pytest.mark.parametrize("initialization", ["pissa", "pissa_niter_4", "olora"])
def test_an_adapter_that_peft_converted_to_plain_lora_is_continued_with_twice_the_rank(
    initialization: str, text: Sources, tmp_path: Path
) -> None:
    save = {"path_initial_model_for_weight_conversion": str(tmp_path / "initial")}
    saved_by_peft(text.base.path, tmp_path / "adapter", save, init_lora_weights=initialization)
    spec = continuing(text, tmp_path / "adapter", rank=2 * RANK, alpha=2.0 * ALPHA)
    own = logits_of_trial(spec, Record(tmp_path / "trial"))
    assert float((own - logits_of_peft(text.base.path, tmp_path / "adapter")).abs().max()) < EQUAL
    assert verify(tmp_path / "adapter", text.base.path).passed


def test_sixteen_bit_tensors_with_the_name_of_the_default_adapter_are_opened_as_peft_opens_them(
    adapter: Path, text: Sources, tmp_path: Path
) -> None:
    rewrite(adapter, lambda tensors: {name: one.bfloat16() for name, one in tensors.items()})
    renamed(".weight", ".default.weight")(adapter)  # as in a state dict of PEFT's model, which PEFT loads too
    own = logits_of_trial(continuing(text, adapter), Record(tmp_path / "trial"))
    assert float((own - logits_of_peft(text.base.path, adapter)).abs().max()) < EQUAL
    assert verify(adapter, text.base.path).passed


@pytest.mark.parametrize(
    ("targets", "placement"),
    [
        (r".*language_model\.layers\.[23]\.self_attn\.[qv]_proj|.*visual\.blocks\.5\.attn\.qkv", (2, 1)),
        (["qkv"], (0, 6)),
    ],
)
def test_with_pictures_an_opened_adapter_computes_what_peft_computes(
    targets: Any, placement: tuple[int, int], vision_sources_of: Callable[[str], Sources], tmp_path: Path
) -> None:
    sources = vision_sources_of("qwen2_5_vl")
    saved_by_peft(sources.base.path, tmp_path / "adapter", target_modules=targets)
    modules = ("qkv",) if not placement[0] else ("q_proj", "v_proj", "qkv")
    where = Placement(language=placement[0], vision=placement[1])
    spec = continuing(sources, tmp_path / "adapter", placement=where, target_modules=modules)
    own, theirs = (
        logits_of_trial(spec, Record(tmp_path / "trial")),
        logits_of_peft(sources.base.path, tmp_path / "adapter"),
    )
    alone = model_of(sources.base.path).eval()(**inputs(sources.base.path)).logits
    assert float((own - theirs).abs().max()) < EQUAL
    assert float((own - alone).abs().max()) > 100 * EQUAL


# -------------------------------------------------------------------- refused
@pytest.mark.parametrize("initialization", ["pissa", "olora"])
def test_a_changed_base_would_be_another_function_and_is_refused(
    initialization: str, text: Sources, tmp_path: Path
) -> None:
    directory = tmp_path / "adapter"
    saved_by_peft(text.base.path, directory, init_lora_weights=initialization)
    trained = logits_of_peft(text.base.path, directory)
    assert_refused(directory, text, f"`init_lora_weights` is '{initialization}'")
    configure(directory, init_lora_weights=True)
    opened_as_plain = logits_of_trial(continuing(text, directory), Record(tmp_path / "trial"))
    assert float((opened_as_plain - trained).abs().max()) > 0.05


def assert_refused(directory: Path, sources: Sources, expected: str) -> None:
    """Assert that `--init-from`, `validate` and `verify` all refuse an adapter, the first with this message."""
    spec = continuing(sources, directory)
    family, config = family_of(spec.base.path)
    with pytest.raises(UserError) as error:
        read_parent(spec, resolve(spec.placement, family.towers(config), spec.target_modules))
    assert expected in str(error.value), error.value
    with pytest.raises(UserError):
        check_opens(directory, spec.base.path)
    with suppress(UserError):
        assert not verify(directory, spec.base.path).passed


def value(tensors: Tensors, key: str, change: Callable[[Any], Any]) -> Tensors:
    """Change one tensor, the first whose name has this part."""
    name = next(one for one in tensors if key in one)
    return tensors | {name: change(tensors[name])}


def without(tensors: Tensors, *parts: str) -> Tensors:
    return {name: one for name, one in tensors.items() if not all(part in name for part in parts)}


def with_embedding(directory: Path, base: Path, change: Callable[[Any], Any]) -> None:
    own = model_of(base).get_input_embeddings().weight.detach()
    rewrite(directory, lambda tensors: tensors | {"base_model.model.model.embed_tokens.weight": change(own)})


PLANTED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "NaN": (lambda d: rewrite(d, lambda t: value(t, "lora_B", lambda one: one * float("nan"))), "holds NaN"),
    "infinity in 16 bits": (
        lambda d: rewrite(d, lambda t: value(t, "lora_A", lambda one: one.bfloat16() / 0)),
        "holds NaN or infinity",
    ),
    "integers": (lambda d: rewrite(d, lambda t: value(t, "lora_A", lambda one: one.char())), "is I8"),
    "no A": (lambda d: rewrite(d, lambda t: without(t, "layers.1.", "up_proj.lora_A")), "has only one of them"),
    "no B": (lambda d: rewrite(d, lambda t: without(t, "layers.1.", "up_proj.lora_B")), "has only one of them"),
    "another rank": (lambda d: configure(d, r=8, lora_alpha=16), "with rank 8, lora_A must be (8, inputs)"),
    "another rank in B": (
        lambda d: rewrite(d, lambda t: value(t, "lora_B", lambda one: one[:, :2])),
        "lora_B (outputs, 4)",
    ),
    "an empty shard": (lambda d: rewrite(d, lambda t: value(t, "lora_A", lambda one: one[:0])), "must be gathered"),
    "a module is missing": (
        lambda d: rewrite(d, lambda t: without(t, "layers.1.mlp.up_proj")),
        "it has none for model.layers.1.mlp.up_proj",
    ),
    "a target is missing": (
        lambda d: configure(d, target_modules=[one for one in LINEARS if one != "up_proj"]),
        "does not match model.layers.0.mlp.up_proj, model.layers.1.mlp.up_proj, model.layers.2.mlp.up_proj and 1 more",
    ),
    "an excluded target": (lambda d: configure(d, exclude_modules=["0.mlp.up_proj"]), "model.layers.0.mlp.up_proj"),
    "other layers": (lambda d: configure(d, layers_to_transform=[0, 1, 2]), "model.layers.3.mlp.down_proj"),
    "no target": (lambda d: configure(d, target_modules=None), "`target_modules` must be given"),
    "names of an adapter": (renamed(".weight", ".stage2.weight"), "the name of an adapter, `stage2`"),
    "a tensor twice": (
        lambda d: rewrite(d, lambda t: t | {next(iter(t)).replace(".weight", ".default.weight"): t[next(iter(t))] * 1}),
        "some are there twice",
    ),
    "no prefix": (renamed("base_model.model.", ""), "can be continued, but got model.layers"),
    "another model's names": (
        renamed("model.layers", "model.language_model.layers"),
        "`model.language_model.layers` must be `model.layers` for this base",
    ),
    "an unknown key": (lambda d: configure(d, use_tomorrow=True), "`use_tomorrow` is True: the key is unknown"),
    "aLoRA": (lambda d: configure(d, alora_invocation_tokens=[7, 8]), "it is aLoRA"),
    "layers more than the base has": (renamed("layers.3.", "layers.9."), "every module must be a linear layer"),
}  # fmt: skip


@pytest.mark.parametrize("fault", PLANTED)
def test_a_fault_is_refused_by_every_command(fault: str, adapter: Path, text: Sources) -> None:
    plant, expected = PLANTED[fault]
    plant(adapter)
    assert_refused(adapter, text, expected)


def test_an_adapter_of_another_kind_is_refused_by_its_kind(adapter: Path) -> None:
    from peft import PeftType

    for kind in (one.value for one in PeftType if one != PeftType.LORA):
        configure(adapter, peft_type=kind)
        with pytest.raises(UserError, match=f"`peft_type` 'LORA', but it is '{kind}'"):
            read_adapter(adapter)


def test_an_adapter_that_names_a_copy_of_the_base_is_continued(adapter: Path, text: Sources, tmp_path: Path) -> None:
    configure(adapter, base_model_name_or_path="unsloth/base-bnb-4bit")
    spec = continuing(text, adapter)
    assert base_match(read_adapter(adapter), spec).endswith(
        "names unsloth/base-bnb-4bit, by its name a copy of this base"
    )
    own = logits_of_trial(spec, Record(tmp_path / "trial"))
    assert float((own - logits_of_peft(text.base.path, adapter)).abs().max()) < EQUAL


def test_a_saved_embedding_must_be_that_of_the_base(adapter: Path, text: Sources, tmp_path: Path) -> None:
    """PEFT puts it in place of the base's: `validate` opens it so, a trial, whose base is fixed, does not."""
    import torch

    with_embedding(adapter, text.base.path, lambda own: own.clone())
    own = logits_of_trial(continuing(text, adapter), Record(tmp_path / "trial"))
    assert float((own - logits_of_peft(text.base.path, adapter)).abs().max()) < EQUAL

    with_embedding(adapter, text.base.path, lambda own: own + 0.5)
    spec = continuing(text, adapter)
    with pytest.raises(UserError, match=r"but model\.embed_tokens\.weight differs, and PEFT would"):
        read_parent(spec, resolve(spec.placement, family_of(text.base.path)[0].towers(family_of(text.base.path)[1])))
    lines = [check.found for check in verify(adapter, text.base.path).checks if check.passed]
    assert "PEFT puts them in place of the base's: base_model.model.model.embed_tokens.weight" in lines

    with_embedding(adapter, text.base.path, lambda own: torch.cat([own, own[:1]]))
    assert_refused(adapter, text, "model.embed_tokens.weight differs")


def test_names_of_an_older_transformers_that_peft_drops_are_named(
    vision_sources_of: Callable[[str], Sources], tmp_path: Path
) -> None:
    """Transformers before 4.52 saved `model.layers` and `visual` for Qwen2-VL and Qwen2.5-VL."""
    sources, directory = vision_sources_of("qwen2_vl"), tmp_path / "adapter"
    saved_by_peft(sources.base.path, directory, target_modules=["q_proj", "qkv"])
    assert verify(directory, sources.base.path).passed
    renamed("model.language_model.layers", "model.layers")(directory)
    renamed("model.visual.blocks", "visual.blocks")(directory)
    expected = "`model.layers` must be `model.language_model.layers` for this base"
    assert_refused(directory, sources, expected)
    failed = [check for check in verify(directory, sources.base.path).checks if not check.passed]
    assert "older transformers" in failed[0].hint and expected in failed[0].hint


def test_pairs_per_expert_of_an_older_transformers_are_converted_by_peft(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "num_hidden_layers": 1}
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 32}
    config = Qwen3MoeConfig(hidden_size=32, intermediate_size=64, vocab_size=64, **heads, **experts)  # type: ignore[arg-type]
    Qwen3MoeForCausalLM(config).save_pretrained(tmp_path / "base")
    tensors = {}
    for name in ("self_attn.q_proj", *(f"mlp.experts.{i}.{p}_proj" for i in (0, 1) for p in ("gate", "up", "down"))):
        module = f"base_model.model.model.layers.0.{name}"
        tensors |= {f"{module}.lora_A.weight": torch.randn(2, 32), f"{module}.lora_B.weight": torch.randn(32, 2)}
    directory = tmp_path / "adapter"
    directory.mkdir()
    save_file(tensors, directory / ADAPTER_WEIGHTS)
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules":
                ["q_proj", "gate_proj", "up_proj", "down_proj"]}  # fmt: skip
    (directory / ADAPTER_CONFIG).write_text(json.dumps(settings))
    found = verify(directory, tmp_path / "base")
    assert found.passed, [check.found for check in found.checks if not check.passed]
    assert any("names are those of an older transformers, which PEFT converts" in one.found for one in found.checks)
    save_file(without(tensors, "experts.1.up_proj"), directory / ADAPTER_WEIGHTS)
    assert not verify(directory, tmp_path / "base").passed
