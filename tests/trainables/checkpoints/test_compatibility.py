"""Tests which adapters a trial can continue, with adapters that PEFT itself saved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_trials import SpecMaker

from trainables.checkpoints.adapter import adapter_source, read_adapter
from trainables.checkpoints.compatibility import base_match, check_continues, extension, read_parent
from trainables.errors import UserError
from trainables.io.files import write_json
from trainables.model.families import family_of
from trainables.model.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from trainables.model.placement import ResolvedPlacement, resolve
from trainables.spec import Placement, Source, TrialSpec

RANK, ALPHA = 4, 8


@pytest.fixture(scope="module")
def saved_by_peft(make_spec: SpecMaker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of L2-V2, as PEFT makes and saves it on the miniature, without a line of this project."""
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen3VLForConditionalGeneration

    spec = make_spec()
    model = Qwen3VLForConditionalGeneration.from_pretrained(str(spec.base.path))
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(placed(spec).module_names))
    directory = tmp_path_factory.mktemp("peft")
    get_peft_model(model, config).save_pretrained(str(directory))
    return directory


@pytest.fixture
def adapter(saved_by_peft: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved_by_peft, tmp_path / "adapter"))


def placed(spec: TrialSpec) -> ResolvedPlacement:
    family, config = family_of(spec.base.path)
    return resolve(spec.placement, family.towers(config), spec.target_modules)


def continuing(make_spec: SpecMaker, directory: Path, **changes: Any) -> TrialSpec:
    return make_spec(init_from=adapter_source(directory, changes.get("optimizer", "fresh")), **changes)


def configure(directory: Path, **changes: Any) -> None:
    path = directory / ADAPTER_CONFIG
    write_json(path, json.loads(path.read_text()) | changes)


def test_what_peft_saved_is_read_without_its_tensors(adapter: Path, make_spec: SpecMaker) -> None:
    saved, placement = read_adapter(adapter), placed(make_spec())
    assert (saved.rank, saved.alpha, saved.rslora) == (RANK, ALPHA, False)
    assert saved.base_name == str(make_spec().base.path) and saved.base_sha256 is None
    assert set(saved.modules) == set(placement.module_names)
    linears = {one.name: one for tower in placement.linears.values() for one in tower}
    assert all(shape == (RANK, linears[n].inputs, linears[n].outputs) for n, shape in saved.modules.items())


def test_reading_an_adapter_needs_no_torch(adapter: Path) -> None:
    import subprocess
    import sys

    script = (
        "import sys; from pathlib import Path; from trainables.checkpoints.compatibility import read_adapter; "
        f"read_adapter(Path({str(adapter)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_same_adapter_is_continued(adapter: Path, make_spec: SpecMaker) -> None:
    spec = continuing(make_spec, adapter, seed=7, learning_rate=1e-5)
    assert read_parent(spec, placed(spec)).directory == adapter
    assert base_match(read_adapter(adapter), spec) == "same, by path"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rank": 8}, "`r` must equal this trial's value 8, but it is 4"),
        ({"alpha": 16.0}, "`lora_alpha` must equal this trial's value 16.0, but it is 8.0"),
        ({"rslora": True}, "`use_rslora` must equal this trial's value True, but it is False"),
        (
            {"placement": Placement(language=3, vision=2)},
            "must equal L3-V2, but 7 modules (7 language: model.language_model.layers.5.self_attn.q_proj, "
            "model.language_model.layers.5.self_attn.k_proj, model.language_model.layers.5.self_attn.v_proj, ...) "
            "only in this trial's placement",
        ),
        ({"placement": Placement(language=2, vision=1)}, "4 modules (4 vision: model.visual.blocks.10"),
        ({"target_modules": ("q_proj", "qkv")}, "only in the saved adapter"),
    ],
)
def test_each_difference_names_both_values_and_the_file(
    changes: dict[str, Any], expected: str, adapter: Path, make_spec: SpecMaker
) -> None:
    spec = continuing(make_spec, adapter, **changes)
    with pytest.raises(UserError) as error:
        read_parent(spec, placed(spec))
    assert expected in error.value.message
    assert str(adapter) in error.value.message


def test_all_differences_are_reported_at_once(adapter: Path, make_spec: SpecMaker) -> None:
    spec = continuing(make_spec, adapter, rank=8, alpha=4.0, placement=Placement(language=1))
    with pytest.raises(UserError) as error:
        read_parent(spec, placed(spec))
    assert all(word in error.value.message for word in ("`r`", "`lora_alpha`", "only in the saved adapter"))


def test_an_extension_contains_its_parent(adapter: Path, make_spec: SpecMaker) -> None:
    larger = {"placement": Placement(language=2, vision=4), "continuation": "extended"}
    spec = continuing(make_spec, adapter, **larger)
    saved = read_parent(spec, placed(spec))
    assert {name.split(".")[3] for name in extension(saved, placed(spec))} == {"8", "9"}
    smaller = spec.model_copy(update={"placement": Placement(language=1, vision=4)})
    with pytest.raises(UserError, match="its modules must be part of L1-V4, but 7 modules"):
        check_continues(saved, smaller, placed(smaller))


def test_an_adapter_that_changed_since_it_was_planned_is_refused(adapter: Path, make_spec: SpecMaker) -> None:
    spec = continuing(make_spec, adapter)
    weights = adapter / ADAPTER_WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"must be unchanged since it was planned, .* but its sha256 is"):
        read_parent(spec, placed(spec))


def test_the_hash_is_the_files_own_and_a_resumed_optimizer_is_part_of_it(adapter: Path) -> None:
    from hashlib import sha256

    fresh = adapter_source(adapter)
    assert fresh.sha256 == sha256((adapter / ADAPTER_WEIGHTS).read_bytes()).hexdigest()
    with pytest.raises(UserError, match=r"a resumed optimizer needs optimizer\.safetensors"):
        adapter_source(adapter, "resumed")
    (adapter / "optimizer.safetensors").write_bytes(b"one")
    one = adapter_source(adapter, "resumed")
    (adapter / "optimizer.safetensors").write_bytes(b"two")
    assert len({fresh.sha256, one.sha256, adapter_source(adapter, "resumed").sha256}) == 3


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (shutil.rmtree, "must be a directory, but"),
        (lambda path: (path / ADAPTER_CONFIG).unlink(), "an adapter directory must hold adapter_config.json and"),
        (lambda path: (path / ADAPTER_WEIGHTS).unlink(), "an adapter directory must hold adapter_config.json and"),
        (lambda path: (path / ADAPTER_CONFIG).write_text("{"), "a file must hold the JSON that was written"),
        (lambda path: configure(path, r="four"), "`r` must be a whole number above 0, but got 'four'"),
        (
            lambda path: configure(path, use_dora=True),
            "only plain LoRA can be continued, but `use_dora` is True: it is DoRA",
        ),
        (lambda path: configure(path, peft_type="IA3"), "`peft_type` 'LORA', but it is 'IA3'"),
        (lambda path: configure(path, modules_to_save=["lm_head"]), "`modules_to_save`"),
        (lambda path: configure(path, rank_pattern={"q_proj": 8}), "`rank_pattern`"),
        (lambda path: (path / ADAPTER_WEIGHTS).write_bytes(b"no weights"), "weights must be safetensors, but"),
    ],
)
def test_adapters_other_than_plain_lora_are_refused(
    broken: Callable[[Path], Any], expected: str, adapter: Path
) -> None:
    broken(adapter)
    with pytest.raises(UserError) as error:
        read_adapter(adapter)
    assert expected in error.value.message and error.value.exit_code == 2


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["base_model.model.a.lora_A.weight"], "a has only one of them"),
        (["base_model.model.lm_head.weight"], "it holds none"),
        (["base_model.model.a.lora_embedding_A"], "only LoRA tensors named"),
        ([], "it holds none"),
    ],
)
def test_unpaired_lora_tensors_are_refused(keys: list[str], expected: str, adapter: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({key: np.zeros((2, 2), np.float32) for key in keys}, str(adapter / ADAPTER_WEIGHTS))
    with pytest.raises(UserError, match=expected):
        read_adapter(adapter)


def test_the_base_is_known_by_record_by_path_or_by_name_or_not_at_all(
    adapter: Path, make_spec: SpecMaker, tmp_path: Path
) -> None:
    spec = make_spec()
    configure(adapter, base_model_name_or_path=str(spec.base.path))
    assert base_match(read_adapter(adapter), spec) == "same, by path"
    for elsewhere, names in ((None, ""), ("/somewhere/else", ": the adapter names /somewhere/else")):
        configure(adapter, base_model_name_or_path=elsewhere)
        assert base_match(read_adapter(adapter), spec) == f"unknown{names}"

    snapshot = Source(path=tmp_path / "models--Qwen--Qwen3-VL-4B-Instruct" / "snapshots" / "0", sha256="ba5e")
    cached = spec.model_copy(update={"base": snapshot})
    copy = ", by its name a copy of this base"
    for name, output in (
        ("Qwen/Qwen3-VL-4B-Instruct", "same, by name"),
        ("Qwen/Qwen3-VL-8B-Instruct", "unknown: the adapter names Qwen/Qwen3-VL-8B-Instruct"),
        (
            "unsloth/qwen3-vl-4b-instruct-unsloth-bnb-4bit",
            "unknown: the adapter names unsloth/qwen3-vl-4b-instruct-unsloth-bnb-4bit" + copy,
        ),
        ("mirror/Qwen3-VL-4B-Instruct", "unknown: the adapter names mirror/Qwen3-VL-4B-Instruct" + copy),
    ):
        configure(adapter, base_model_name_or_path=name)
        assert base_match(read_adapter(adapter), cached) == output
        check_continues(read_adapter(adapter), cached, placed(spec))  # PEFT ignores the name

    write_json(adapter / "provenance.json", {"spec": {"base": {"sha256": "0ther"}}})
    with pytest.raises(UserError, match=f"on this base, {spec.base.sha256[:12]}, but it was trained on 0ther"):
        check_continues(read_adapter(adapter), spec, placed(spec))
