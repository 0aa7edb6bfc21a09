"""Files of a base that are missing, damaged, or do not agree: each is refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from damaged_bases import INDEX, WEIGHTS, change_config, copied, sharded, write_index
from safetensors.torch import load_file, save_file

from trainables.errors import UserError
from trainables.mini.text import BASE_DIRECTORY as TEXT
from trainables.model.base import load_base
from trainables.model.stored_base import read_base

CPU = torch.device("cpu")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return copied(TEXT, tmp_path)


def refusal(base: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        read_base(base)
    return caught.value


def cut(base: Path, left: int) -> None:
    (base / WEIGHTS).write_bytes((base / WEIGHTS).read_bytes()[:left])


FILE_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut in the data": (lambda base: cut(base, -10), "must be a whole safetensors file"),
    "cut in the header": (lambda base: cut(base, 100), "must be a whole safetensors file"),
    "empty": (lambda base: cut(base, 0), "must be a whole safetensors file"),
    "longer than its header says": (
        lambda base: (base / WEIGHTS).write_bytes((base / WEIGHTS).read_bytes() + b"x"), "must be a whole"),
    "a pointer of Git LFS": (
        lambda base: (base / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\n"), "pointer of Git LFS"),
    "another name": (
        lambda base: (base / WEIGHTS).rename(base / "consolidated.safetensors"), "has only `consolidated.safetensors`"),
    "only pickled": (lambda base: (base / WEIGHTS).rename(base / "pytorch_model.bin"), "as *.safetensors, but"),
    "a file of another name in the configuration": (
        lambda base: change_config(base, transformers_weights="other.safetensors"), "`transformers_weights` names"),
    "files of distributed training": (
        lambda base: (base / "shard-00000-model-00001-of-00001.safetensors").touch(), "must hold its weights once"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_damaged_files_are_refused(fault: str, base: Path) -> None:
    FILE_FAULTS[fault][0](base)
    assert FILE_FAULTS[fault][1] in refusal(base).message


def test_shards_are_read(base: Path) -> None:
    whole = read_base(base).weights
    sharded(base)
    assert {name: one.shape for name, one in read_base(base).weights.items()} == {
        name: one.shape for name, one in whole.items()
    }
    (base / "consolidated.safetensors").write_bytes(b"which transformers does not read")
    load_base(base, "none", "float32", CPU)


def test_an_index_of_one_file_is_read(base: Path) -> None:
    write_index(base, dict.fromkeys(load_file(base / WEIGHTS), WEIGHTS))
    read_base(base)


def misplaced(base: Path, places: dict[str, str]) -> None:
    first, *_, last = sorted(places)
    write_index(base, {**places, last: places[first]})


SHARD_FAULTS: dict[str, tuple[Callable[[Path, dict[str, str]], object], str]] = {
    "a shard is missing": (lambda base, places: (base / max(places.values())).unlink(), "of 3 files `model-00003-of-"),
    "the index is missing": (lambda base, _: (base / INDEX).unlink(), "has only `model-00001-of-00003.safetensors`"),
    "the index is no JSON": (lambda base, _: (base / INDEX).write_text("{"), INDEX),
    "the index has no map": (lambda base, _: (base / INDEX).write_text("{}"), "`weight_map` must give a file"),
    "the index is a list": (lambda base, _: (base / INDEX).write_text("[]"), "`weight_map` must give a file"),
    "a file elsewhere": (lambda base, places: write_index(base, {**places, "x": "../x.safetensors"}), "same directory"),
    "a weight in another shard": (misplaced, "a shard must hold what"),
    "a weight that no shard holds": (
        lambda base, places: write_index(base, {**places, "x": min(places.values())}), "but it holds no `x`"),
    "a weight that is not listed": (
        lambda base, places: write_index(base, {name: at for name, at in places.items() if "norm" not in name}),
        "but it also holds `model.layers"),
    "one whole file and shards": (
        lambda base, places: save_file(
            load_file(base / min(places.values())), base / WEIGHTS, {"format": "pt"}), "must hold its weights once"),
    "a cut shard": (
        lambda base, places: (base / max(places.values())).write_bytes(b"1234567"), "must be a whole safetensors file"),
}  # fmt: skip


@pytest.mark.parametrize("fault", SHARD_FAULTS)
def test_an_index_and_shards_that_do_not_agree_are_refused(fault: str, base: Path) -> None:
    SHARD_FAULTS[fault][0](base, sharded(base))
    assert SHARD_FAULTS[fault][1] in refusal(base).message


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_beside_the_weights_is_refused(file: str, base: Path) -> None:
    (base / file).write_text("{}")
    error = refusal(base)
    assert f"also holds `{file}`" in error.message
    assert "--init-from" in (error.hint or "")
    with pytest.raises(UserError, match="a model without an adapter"):
        load_base(base, "none", "float32", CPU)
