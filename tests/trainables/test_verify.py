"""Tests the verification of adapter directories, of this project and of plain PEFT."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ended import Ended, ended
from small_trials import SpecMaker

from trainables.checkpoints.verification import Verification, verify
from trainables.errors import UserError
from trainables.model.peft_files import ADAPTER_CONFIG as CONFIG
from trainables.model.peft_files import ADAPTER_WEIGHTS as WEIGHTS

if TYPE_CHECKING:
    from trainables.engine import Engine


@pytest.fixture
def saved(engine: Engine, make_spec: SpecMaker, tmp_path: Path) -> Path:
    """Save a trained adapter of this project."""
    import torch

    from trainables.model.lora import place
    from trainables.model.placement import resolve

    spec = make_spec()
    adapter = place(engine.base, spec, resolve(spec.placement, engine.base.towers))
    with torch.no_grad():
        for name, parameter in adapter.trained():
            if "lora_B" in name:
                parameter.fill_(0.01)
    directory = tmp_path / "adapter"
    directory.mkdir()
    adapter.save(directory)
    adapter.remove()
    return directory


def rewritten(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(directory / WEIGHTS)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / WEIGHTS)


def failed(verification: Verification) -> list[str]:
    return [check.found for check in verification.checks if not check.passed]


def test_an_adapter_of_this_project_passes_and_its_trainable_parameters_are_shown(saved: Path, engine: Engine) -> None:
    verification = verify(saved)
    assert verification.passed
    lines = [check.found for check in verification.checks]
    trained = 4 * sum(one.inputs + one.outputs for tower in engine.base.towers.values()
                      for block in tower[-2:] for one in block)  # fmt: skip
    total = sum(p.numel() for p in engine.base.model.parameters()) + trained
    assert lines[:4] == [
        "Only one adapter: default",
        "Active adapter matches",
        f"Trainable params: {trained:,} / {total:,} ({trained / total:.4%})",
        "Base model is frozen (0 trainable params)",
    ]
    assert lines[-1].startswith("sha256 ")


def by_peft(base: Any, config: Any, directory: Path, acts: bool = True) -> Any:
    """Save an adapter made by plain PEFT, with changed weights as after training."""
    import torch
    from peft import get_peft_model

    config.base_model_name_or_path = str(base.path)
    torch.manual_seed(0)
    model = get_peft_model(base.model, config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and acts:
                parameter.add_(torch.randn_like(parameter) * 0.01)
    model.save_pretrained(str(directory))
    return model


def lora(**changes: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(**({"r": 3, "target_modules": ["q_proj", "v_proj"]} | changes))


def ia3() -> Any:
    from peft import IA3Config

    return IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])


OTHERS = {
    "dora": lambda: lora(use_dora=True),
    "modules_to_save": lambda: lora(modules_to_save=["embed_tokens"]),
    "rank_pattern": lambda: lora(rank_pattern={"layers.7.self_attn.q_proj": 8}),
    "embedding": lambda: lora(target_modules=["q_proj", "embed_tokens"]),
    "orthogonal": lambda: lora(init_lora_weights="orthogonal", r=4),
    "expression": lambda: lora(target_modules=r".*layers\.[67]\.self_attn\.[qv]_proj"),
    "ia3": ia3,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", OTHERS)
def test_an_adapter_of_plain_peft_passes_too(kind: str, own_base: Callable[..., Any], tmp_path: Path) -> None:
    base = own_base()
    model = by_peft(base, OTHERS[kind](), tmp_path / kind)
    trained, total = model.get_nb_trainable_parameters()  # PEFT's own count
    verification = verify(tmp_path / kind)
    assert verification.passed, failed(verification)
    assert verification.checks[2].found == f"Trainable params: {trained:,} / {total:,} ({trained / total:.4%})"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"init_lora_weights": "pissa"}, "`init_lora_weights` is 'pissa': its A and B belong to a base whose weights"),
        ({"alora_invocation_tokens": [1, 2]}, "`alora_invocation_tokens` is [1, 2]: it is aLoRA"),
        ({"use_tomorrow": True}, "`use_tomorrow` is True: the key is unknown"),
    ],
)
def test_an_adapter_that_its_files_and_its_base_do_not_determine_cannot_be_opened(
    change: dict[str, Any], expected: str, saved: Path
) -> None:
    configured(saved, **change)
    [found] = failed(verify(saved))
    assert found.startswith(f"It cannot be opened: {expected}")
    run = command(saved)
    assert run.exit_code == 1 and "✗ It cannot be opened" in run.output and "hint: " in run.output


def configured(directory: Path, **changes: Any) -> None:
    (directory / CONFIG).write_text(json.dumps(json.loads((directory / CONFIG).read_text()) | changes))


@pytest.mark.filterwarnings("ignore")
def test_the_kind_is_named_and_whether_a_trial_can_continue_it(
    saved: Path, own_base: Callable[..., Any], tmp_path: Path
) -> None:
    lines = [check.found for check in verify(saved).checks]
    assert "Kind: LORA, plain, which --init-from can continue" in lines
    kinds = {
        "dora": "LORA, which --init-from cannot continue: `use_dora` is True: it is DoRA",
        "ia3": "IA3, which --init-from cannot continue: it continues plain LoRA alone",
    }
    for kind, expected in kinds.items():
        by_peft(own_base(), OTHERS[kind](), tmp_path / kind)
        assert f"Kind: {expected}" in [check.found for check in verify(tmp_path / kind).checks]


def test_another_name_of_the_base_is_told_and_not_compared(saved: Path, make_spec: SpecMaker) -> None:
    name = "unsloth/mini-unsloth-bnb-4bit"
    configured(saved, base_model_name_or_path=name)
    with pytest.raises(UserError, match=f"but {name} is neither; it is named as a quantized copy of mini"):
        verify(saved)
    base = make_spec().base.path
    found = verify(saved, base)
    assert found.passed
    assert f"Base: {base}; the adapter names {name}, and names are not compared" in [one.found for one in found.checks]


def test_a_kind_that_needs_the_weights_of_the_base_is_named(own_base: Callable[..., Any], tmp_path: Path) -> None:
    from peft import ShiraConfig

    by_peft(own_base(), ShiraConfig(r=2, target_modules=["q_proj"]), tmp_path / "shira")
    with pytest.raises(UserError, match="opens without the base's weights, but SHIRA needs them"):
        verify(tmp_path / "shira")


def test_a_vector_of_ones_is_reported_as_untrained(own_base: Callable[..., Any], tmp_path: Path) -> None:
    by_peft(own_base(), ia3(), tmp_path / "ia3", acts=False)
    assert failed(verify(tmp_path / "ia3")) == [
        "16 of 16 tensors are all 0 or all 1, the first is "
        "base_model.model.model.language_model.layers.0.mlp.down_proj.ia3_l"
    ]


def test_biases_of_the_base_that_would_train_are_named(own_base: Callable[..., Any], tmp_path: Path) -> None:
    by_peft(own_base(), lora(bias="all"), tmp_path / "biased")
    assert any("tensors of the base would train" in line for line in failed(verify(tmp_path / "biased")))


@pytest.mark.filterwarnings("ignore")
def test_a_doubled_adapter_is_found(own_base: Callable[..., Any], tmp_path: Path) -> None:
    """A second get_peft_model on a PeftModel: its file has names that no base has."""
    from peft import get_peft_model

    base = own_base()
    twice = get_peft_model(get_peft_model(base.model, lora()), lora())
    twice.save_pretrained(str(tmp_path / "twice"))
    config = json.loads((tmp_path / "twice" / CONFIG).read_text())
    (tmp_path / "twice" / CONFIG).write_text(json.dumps({**config, "base_model_name_or_path": str(base.path)}))
    assert any(line.startswith("Tensors differ: missing") for line in failed(verify(tmp_path / "twice")))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda t: t.update({k: v * 0 for k, v in t.items() if "lora_B" in k and ".7." in k}),
            "7 of 44 tensors are all 0",
        ),
        (
            lambda t: t.update({k: v * 0 for k, v in t.items() if "lora_A" in k and ".7." in k}),
            "7 of 44 tensors are all 0",
        ),
        (lambda t: t.update({k: v * float("nan") for k, v in list(t.items())[:1]}), "not finite: base_model"),
        (lambda t: t.pop(next(iter(t))), "Tensors differ: missing base_model"),
        (lambda t: t.update(stray=next(iter(t.values())).clone()), "Tensors differ: not expected stray"),
        (lambda t: t.update({k: v[:, :1] for k, v in list(t.items())[:1]}), "Tensors differ: other shape base_model"),
    ],
)
def test_a_damaged_file_is_found(change: Callable[[dict[str, Any]], None], expected: str, saved: Path) -> None:
    rewritten(saved, change)
    verification = verify(saved)
    assert not verification.passed
    assert any(line.startswith(expected) for line in failed(verification)), failed(verification)


def test_another_rank_is_another_count(saved: Path) -> None:
    config = json.loads((saved / CONFIG).read_text())
    (saved / CONFIG).write_text(json.dumps({**config, "r": 8}))
    output = failed(verify(saved))
    assert output[0] == "PEFT cannot load it: its tensors do not match its configuration"
    assert any("other shape" in line for line in output)


def test_a_base_that_holds_an_adapter_of_its_own_is_refused(saved: Path, engine: Engine, tmp_path: Path) -> None:
    base = Path(shutil.copytree(engine.base.path, tmp_path / "base"))
    assert verify(saved, base).passed
    shutil.copy(saved / CONFIG, base)
    with pytest.raises(UserError, match=f"a base must be a model without an adapter, but .* also holds `{CONFIG}`"):
        verify(saved, base)


def test_a_second_adapter_in_the_directory_is_named(saved: Path) -> None:
    shutil.copytree(saved, saved / "stage2")
    assert failed(verify(saved)) == ["One adapter expected, but 2: default, stage2"]


def manifest(directory: Path, **more: str) -> None:
    digests = {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(directory.glob("*"))}
    (directory / "manifest.json").write_text(json.dumps({"sha256": digests | more}))


def test_a_file_that_differs_from_its_manifest_is_found(saved: Path) -> None:
    manifest(saved)
    assert verify(saved).passed
    rewritten(saved, lambda tensors: tensors.update({k: v * 2 for k, v in tensors.items()}))
    assert failed(verify(saved)) == [f"A file differs from its manifest: {WEIGHTS}"]


def test_an_adapter_taken_from_mlflow_passes_without_its_optimizer_and_with_files_of_others(saved: Path) -> None:
    """`sweeps.tracking.mlflow_fields` leaves the optimizer out of what it logs, the hub adds files of its own."""
    (saved / "optimizer.safetensors").write_bytes(b"momentum")
    manifest(saved)
    (saved / "optimizer.safetensors").unlink()
    (saved / ".gitattributes").write_text("*.safetensors filter=lfs")
    (saved / "tokenizer.json").write_text("{}")
    verification = verify(saved)
    assert verification.passed, failed(verification)
    output = [check.found for check in verification.checks]
    assert "Listed in its manifest, but missing: optimizer.safetensors" in output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "Its manifest cannot be read"),
        ('{"sha256": {}}', f"Its manifest does not list {CONFIG}, {WEIGHTS}"),
    ],
)
def test_an_incomplete_manifest_fails_its_check(text: str, expected: str, saved: Path) -> None:
    (saved / "manifest.json").write_text(text)
    [found] = failed(verify(saved))
    assert found.startswith(expected)


def test_a_manifest_of_another_tool_is_ignored(saved: Path) -> None:
    (saved / "manifest.json").write_text('{"files": [1, 2]}')
    assert verify(saved).passed


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda d: (d / WEIGHTS).unlink(), f"but it has no {WEIGHTS}"),
        (lambda d: (d / WEIGHTS).write_bytes((d / WEIGHTS).read_bytes()[:-9]), "must be a whole safetensors file"),
        (lambda d: (d / CONFIG).write_text('{"peft_type": "LORAX"}'), "must be a configuration PEFT knows"),
    ],
)
def test_a_directory_that_cannot_be_checked_is_an_error(
    spoil: Callable[[Path], Any], expected: str, saved: Path
) -> None:
    spoil(saved)
    with pytest.raises(UserError, match=expected):
        verify(saved)


def test_for_a_parent_directory_the_hint_names_the_adapter(saved: Path) -> None:
    with pytest.raises(UserError, match=f"hint: there is an adapter in {saved}"):
        verify(saved.parent)


def test_prompt_learning_is_refused(own_base: Callable[..., Any], tmp_path: Path) -> None:
    from peft import PromptTuningConfig

    by_peft(own_base(), PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"), tmp_path / "prompt")
    with pytest.raises(UserError, match="the adapter must be part of the base's modules"):
        verify(tmp_path / "prompt")


def test_target_modules_that_the_base_does_not_have_are_an_error(saved: Path) -> None:
    config = json.loads((saved / CONFIG).read_text())
    (saved / CONFIG).write_text(json.dumps({**config, "target_modules": ["qkv_proj_of_another_family"]}))
    with pytest.raises(UserError, match="its target modules must exist"):
        verify(saved)


def command(*words: object) -> Ended:
    from trainables.verify import main

    return ended(main, *words)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("[]", "it must be a JSON object, but got []"),
        ("{", "a file must hold the JSON that was written"),
        ({"r": "four"}, "`r` must be a whole number above 0, but got 'four'"),
        ({"lora_alpha": None}, "`lora_alpha` must be a number, but got None"),
        ({"lora_dropout": 2}, "`lora_dropout` must be a number from 0"),
        ({"target_modules": "("}, "`target_modules` must be a list of module names, or one regular"),
        ({"target_modules": [3]}, "`target_modules` must be a list of module names, or one regular"),
        ({"rank_pattern": {"(": 8}}, "PEFT must be able to open the adapter on"),
        ({"peft_type": 5}, "`peft_type` must be a text"),
        ({"peft_type": None}, "`peft_type` must be a text"),
        ('{"r": 8, "fine_tune_type": "lora"}', "`peft_type` must be a text such as LORA, but there is none"),
        ({"use_rslora": "false"}, "`use_rslora` must be true or false"),
        ({"layers_to_transform": ["1"]}, "`layers_to_transform` must be a layer's number, or a list of them"),
        ({"base_model_name_or_path": None}, "`base_model_name_or_path` must name the base, but it is null"),
        ({"base_model_name_or_path": 7}, "`base_model_name_or_path` must be a path or a name on the hub"),
        ({"base_model_name_or_path": "~nobody/" + "x" * 300}, "the base must be a directory with config.json"),
    ],
)
def test_a_broken_configuration_exits_2_with_file_key_and_hint(change: Any, expected: str, saved: Path) -> None:
    text = change if isinstance(change, str) else json.dumps(json.loads((saved / CONFIG).read_text()) | change)
    (saved / CONFIG).write_text(text)
    run = command(saved)
    assert run.exit_code == 2, run.output
    assert expected in run.output and "hint: " in run.output
    assert CONFIG in run.output or "base_model" in str(change)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("{", "a file must hold the JSON that was written"),
        ("[]", "it must be a JSON object, but got []"),
        ({"model_type": "nothing_known"}, "`model_type` must be one that transformers knows"),
        ({"model_type": None}, "`model_type` must be one that transformers knows"),
        (
            {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.Own"}},
            "`auto_map` needs code that came with the base",
        ),
        ({"architectures": ["NoSuchModel"]}, "`architectures` must name a model class of transformers"),
        ({"architectures": ["logging"]}, "`architectures` must name a model class of transformers"),
        (
            {"text_config": {"model_type": "qwen3_vl_text", "hidden_size": "wide"}},
            "transformers must be able to build a model from it",
        ),
    ],
)
def test_a_broken_base_exits_2_with_file_key_and_hint(change: Any, expected: str, saved: Path, tmp_path: Path) -> None:
    named = json.loads((saved / CONFIG).read_text())["base_model_name_or_path"]
    base = tmp_path / "base"
    base.mkdir()
    config = json.loads((Path(named) / "config.json").read_text())
    (base / "config.json").write_text(change if isinstance(change, str) else json.dumps(config | change))
    run = command(saved, "--base", base)
    assert run.exit_code == 2, run.output
    assert expected in run.output and "hint: " in run.output and "config.json" in run.output


def test_a_text_base_that_names_no_architecture_is_built_all_the_same(tmp_path: Path) -> None:
    from trainables.checkpoints.peft_reference import empty_base

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 8, **sizes}))
    assert type(empty_base(tmp_path)).__name__ == "LlamaForCausalLM"


def test_the_command_prints_its_lines_and_its_exit_code_serves_scripts(saved: Path) -> None:
    run = command(saved)
    assert run.exit_code == 0
    assert run.output.startswith("✓ Only one adapter: default\n✓ Active adapter matches\n✓ Trainable params: ")
    rewritten(saved, lambda tensors: tensors.update({k: v * 0 for k, v in tensors.items() if "lora_B" in k}))
    run = command(saved)
    assert run.exit_code == 1
    assert (
        "✗ 22 of 44 tensors are all 0 or all 1, the first is" in run.output
        and "hint: these tensors were never trained" in run.output
    )
    assert command(saved / "nowhere").exit_code == 2


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "trainables.verify", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Adapter directory saved by PEFT" in done.stdout
