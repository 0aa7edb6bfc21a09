"""Hostile bases, adapters and checkpoints: pickles and modules that would run code wherever they were loaded."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from damaged_bases import change_config, copied
from ended import ended
from small_trials import SpecMaker

from trainables.checkpoints.adapter import adapter_source, read_adapter
from trainables.checkpoints.verification import verify
from trainables.errors import ExitCode, UserError
from trainables.io.manifest import MANIFEST, is_whole
from trainables.mini.text import BASE_DIRECTORY as TEXT
from trainables.model.base import load_base
from trainables.model.lora import place
from trainables.model.optimizer import Optimizer
from trainables.model.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, OPTIMIZER_WEIGHTS
from trainables.model.placement import resolve
from trainables.model.stored_base import read_base
from trainables.record import Record

if TYPE_CHECKING:
    from trainables.engine import Engine

CPU = torch.device("cpu")
# what trainers leave beside weights, and what older tools would load
PICKLES = ("pytorch_model.bin", "adapter_model.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth",
           "training_args.bin", "consolidated.00.pth", "tokenizer.pkl", "vocab.pkl")  # fmt: skip


class Trap:
    """An object that, when it is unpickled, leaves a file."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return Path.touch, (self.sprung,)  # type: ignore[return-value]


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    """Return the file that exists once foreign code has run."""
    return tmp_path / "sprung"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return copied(TEXT, tmp_path)


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """Save an adapter by plain PEFT."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj"], base_model_name_or_path=str(base), task_type="CAUSAL_LM")
    model = get_peft_model(load_base(base, "none", "float32", CPU).model, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    model.save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


def plant(path: Path, sprung: Path, through_torch: bool = True) -> None:
    if through_torch:
        torch.save(Trap(sprung), path)
    else:
        path.write_bytes(pickle.dumps(Trap(sprung)))


def plant_module(directory: Path, name: str, sprung: Path) -> None:
    (directory / f"{name}.py").write_text(f"from pathlib import Path\nPath({str(sprung)!r}).touch()\n")


@pytest.mark.parametrize("through_torch", [True, False])
def test_the_planted_pickles_work(through_torch: bool, sprung: Path, tmp_path: Path) -> None:
    plant(tmp_path / "evil.bin", sprung, through_torch)
    if through_torch:
        torch.load(tmp_path / "evil.bin", weights_only=False)
    else:
        pickle.loads((tmp_path / "evil.bin").read_bytes())  # noqa: S301 the trap itself
    assert sprung.exists()


def test_no_pickle_beside_the_weights_of_a_base_is_opened(base: Path, sprung: Path) -> None:
    for name in set(PICKLES) - {"adapter_model.bin"}:  # which is refused: it would be put on the model
        plant(base / name, sprung)
    load_base(base, "none", "float32", CPU)
    assert not sprung.exists()
    plant(base / "adapter_model.bin", sprung)
    with pytest.raises(UserError, match="a base must be a model without an adapter"):
        load_base(base, "none", "float32", CPU)
    assert not sprung.exists()


def test_a_base_of_pickles_alone_is_refused_unopened(base: Path, sprung: Path) -> None:
    (base / "model.safetensors").unlink()
    for name in PICKLES:
        plant(base / name, sprung)
    with pytest.raises(UserError, match="safetensors"):
        read_base(base)
    assert not sprung.exists()


@pytest.mark.parametrize("through_torch", [True, False])
def test_a_pickle_under_the_name_of_a_bases_weights_is_refused_unopened(
    through_torch: bool, base: Path, sprung: Path
) -> None:
    plant(base / "model.safetensors", sprung, through_torch)
    with pytest.raises(UserError, match="safetensors"):
        load_base(base, "none", "float32", CPU)
    assert not sprung.exists()


AUTO = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_no_module_that_a_base_brings_is_run(file: str, base: Path, sprung: Path) -> None:
    plant_module(base, "evil", sprung)
    values = json.loads((base / file).read_text())
    unknown = {"model_type": "evil"} if file == "config.json" else {"tokenizer_class": "Evil"}
    (base / file).write_text(json.dumps(values | {"auto_map": AUTO} | unknown))
    message = ""
    try:
        load_base(base, "none", "float32", CPU)
    except (UserError, ValueError) as error:
        message = str(error)
    assert not sprung.exists(), message


KERNEL = "evil/kernel"
KERNELS: dict[str, dict[str, Any]] = {
    "of attention": {"_attn_implementation": KERNEL},
    "as transformers writes it": {"attn_implementation": KERNEL},
    "of a part": {"text_config": {"_attn_implementation": {"": "sdpa", "vision": KERNEL}}},
    "of experts": {"experts_implementation": KERNEL},
}


@pytest.mark.parametrize("where", KERNELS)
def test_a_kernel_that_a_base_names_is_refused_where_transformers_would_fetch_it(
    where: str, adapter: Path, base: Path
) -> None:
    change_config(base, **KERNELS[where])
    for read in (lambda: read_base(base), lambda: verify(adapter, base)):
        with pytest.raises(UserError, match="'evil/kernel', which would be downloaded and run"):
            read()


def test_an_implementation_of_transformers_is_accepted(base: Path) -> None:
    change_config(base, _attn_implementation="sdpa")
    read_base(base)


def test_no_pickle_beside_an_adapter_is_opened(adapter: Path, base: Path, sprung: Path) -> None:
    for name in PICKLES:
        plant(adapter / name, sprung)
    assert read_adapter(adapter).rank == 2
    assert [check.found for check in verify(adapter, base).checks if not check.passed] == []
    assert not sprung.exists()


def test_an_adapter_of_pickles_alone_is_refused_by_every_reader(adapter: Path, base: Path, sprung: Path) -> None:
    (adapter / ADAPTER_WEIGHTS).unlink()
    for name in PICKLES:
        plant(adapter / name, sprung)
    for read in (read_adapter, lambda path: verify(path, base), adapter_source):
        with pytest.raises(UserError, match=r"adapter_model\.bin is a pickle, which can run code"):
            read(adapter)
    assert not sprung.exists()


@pytest.mark.parametrize("through_torch", [True, False])
def test_a_pickle_under_the_name_of_an_adapters_weights_is_refused_unopened(
    through_torch: bool, adapter: Path, base: Path, sprung: Path
) -> None:
    plant(adapter / ADAPTER_WEIGHTS, sprung, through_torch)
    for read in (read_adapter, lambda path: verify(path, base)):
        with pytest.raises(UserError, match="safetensors"):
            read(adapter)
    assert not sprung.exists()


# keys by which PEFT imports a module, reads a cache by torch.load, or opens other adapters
HOSTILE_CONFIGS: dict[str, dict[str, Any]] = {
    "a library of its own": {"auto_mapping": {"parent_library": "evil", "base_model_class": "Evil"}},
    "a library of Megatron": {"megatron_config": {"tensor_model_parallel_size": 1}, "megatron_core": "evil"},
    "a library of Megatron in AdaLoRA": {
        "peft_type": "ADALORA", "total_step": 10, "megatron_config": {"x": 1}, "megatron_core": "evil"},
    "a cache of CorDA": {"init_lora_weights": "corda", "corda_config": {"cache_file": "CACHE",
                                                                        "covariance_file": "CACHE"}},
    "a cache of LoRA-GA": {"init_lora_weights": "lora_ga", "lora_ga_config": {"cache_file": "CACHE"}},
    "other adapters": {"peft_type": "XLORA", "adapters": {"one": "OTHER"}, "hidden_size": 8},
    "a prompt of several tasks": {"peft_type": "MULTITASK_PROMPT_TUNING", "num_virtual_tokens": 1,
                                  "prompt_tuning_init": "ONLY_SOURCE_SHARED",
                                  "prompt_tuning_init_state_dict_path": "CACHE"},
}  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE_CONFIGS)
def test_no_key_of_an_adapters_configuration_runs_code(
    hostile: str, adapter: Path, base: Path, sprung: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_module(tmp_path, "evil", sprung)
    monkeypatch.syspath_prepend(str(tmp_path))
    plant(tmp_path / "cache.pt", sprung)
    (tmp_path / "other").mkdir()
    shutil.copy(adapter / ADAPTER_CONFIG, tmp_path / "other")
    plant(tmp_path / "other" / "adapter_model.bin", sprung)
    text = json.dumps(HOSTILE_CONFIGS[hostile]).replace("CACHE", str(tmp_path / "cache.pt"))
    values = json.loads((adapter / ADAPTER_CONFIG).read_text()) | json.loads(
        text.replace("OTHER", str(tmp_path / "other"))
    )
    (adapter / ADAPTER_CONFIG).write_text(json.dumps(values))

    def read_it() -> None:
        read_adapter(adapter)

    def verify_it() -> None:
        verify(adapter, base)

    for command in (read_it, verify_it):
        ending = ended(command)
        assert ending.exit_code in (0, 1, 2), ending.stderr
    assert not sprung.exists()


def test_a_pickle_as_the_state_of_an_optimizer_is_refused_unopened(
    engine: Engine, make_spec: SpecMaker, tmp_path: Path, sprung: Path
) -> None:
    spec = make_spec()
    placed = place(engine.base, spec, resolve(spec.placement, engine.base.towers))
    optimizer = Optimizer(placed, spec)
    plant(tmp_path / OPTIMIZER_WEIGHTS, sprung)
    try:
        ending = ended(lambda: optimizer.load(tmp_path))
    finally:
        placed.remove()
    assert ending.exit_code == ExitCode.BAD_INPUT and "must be whole" in ending.stderr
    assert not sprung.exists()


@pytest.mark.parametrize("name", [*PICKLES, OPTIMIZER_WEIGHTS, ADAPTER_WEIGHTS])
def test_a_checkpoint_with_a_file_that_its_manifest_does_not_know_is_not_resumed(
    name: str, adapter: Path, sprung: Path, tmp_path: Path
) -> None:
    record = Record(tmp_path / "trial")
    for step in (1, 2):
        with record.saving(f"checkpoints/step-{step}") as directory:
            for file in adapter.iterdir():
                shutil.copy(file, directory / file.name)
            (directory / OPTIMIZER_WEIGHTS).write_bytes(b"moments")
    assert record.checkpoint_steps() == [2, 1]
    plant(record.checkpoint(2) / name, sprung)
    assert record.checkpoint_steps() == [1]
    assert not sprung.exists()


@pytest.mark.parametrize("absolute", [True, False])
def test_a_checkpoint_whose_manifest_reaches_out_of_it_is_not_resumed(absolute: bool, tmp_path: Path) -> None:
    outside, directory = tmp_path / "outside", tmp_path / "step-1"
    outside.write_bytes(b"elsewhere")
    directory.mkdir()
    name = str(outside) if absolute else "../outside"
    (directory / MANIFEST).write_text(json.dumps({"sha256": {name: sha256(b"elsewhere").hexdigest()}}))
    assert not is_whole(directory)


JSON_BOMBS = {"deep": "[" * 200_000 + "]" * 200_000, "large": '{"x": "' + "y" * 2**24 + '"}', "a list": "[1]",
              "a number of a million digits": '{"r": ' + "9" * 10**6 + "}"}  # fmt: skip


@pytest.mark.parametrize("bomb", JSON_BOMBS)
@pytest.mark.parametrize("of_base", [True, False])
def test_a_configuration_that_would_exhaust_the_reader_is_refused_with_its_name(
    of_base: bool, bomb: str, adapter: Path, base: Path
) -> None:
    path = base / "config.json" if of_base else adapter / ADAPTER_CONFIG
    path.write_text(JSON_BOMBS[bomb])
    with pytest.raises(UserError) as caught:
        verify(adapter, base)
    assert str(path) in caught.value.message
    with pytest.raises(UserError) as caught:
        read_base(base) if of_base else read_adapter(adapter)
    assert str(path) in caught.value.message and len(str(caught.value)) < 1000
