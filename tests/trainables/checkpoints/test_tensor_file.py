"""Compares tensors that are read without torch with those that safetensors reads with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainables.checkpoints import tensor_file
from trainables.checkpoints.tensor_file import are_equal, chunks, is_finite, read_tensors
from trainables.errors import UserError


def written(path: Path, **tensors: object) -> Path:
    from safetensors.torch import save_file

    save_file(tensors, path, metadata={"format": "pt"})  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_values_equal_those_of_torch(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(tensor_file, "CHUNK_VALUES", 5)
    torch.manual_seed(0)
    one, two = torch.randn(3, 4).to(getattr(torch, dtype)), torch.tensor([2.5]).to(getattr(torch, dtype))
    path = written(tmp_path / "t.safetensors", one=one, two=two, none=torch.empty(0, 4))
    tensors = read_tensors(path)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {"one": (3, 4), "two": (1,), "none": (0, 4)}
    assert np.array_equal(np.concatenate(list(chunks(path, tensors["one"]))), one.float().numpy().ravel())
    assert all(is_finite(path, tensor) for tensor in tensors.values())
    again = written(tmp_path / "again.safetensors", one=one.float(), two=two + 1)
    other = read_tensors(again)
    if dtype != "float64":
        assert are_equal(path, tensors["one"], again, other["one"])
    assert not are_equal(path, tensors["two"], again, other["two"])
    assert not are_equal(path, tensors["one"], again, other["two"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_values_that_are_not_finite_are_found(dtype: str, value: float, tmp_path: Path) -> None:
    import torch

    tensor = torch.ones(3, 4, dtype=getattr(torch, dtype))
    tensor[2, 3] = value
    path = written(tmp_path / "t.safetensors", one=tensor)
    assert not is_finite(path, read_tensors(path)["one"])


def test_other_types_are_known_as_such(tmp_path: Path) -> None:
    import torch

    path = written(tmp_path / "t.safetensors", a=torch.ones(2, dtype=torch.int8), b=torch.ones(2))
    assert {name: tensor.is_float for name, tensor in read_tensors(path).items()} == {"a": False, "b": True}


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    import torch

    path = written(tmp_path / "t.safetensors", a=torch.ones(8))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="must be safetensors"):
        read_tensors(path)


def test_a_file_of_tensors_cut_anywhere_or_with_bytes_behind_it_is_refused(tmp_path: Path) -> None:
    import torch

    path = written(tmp_path / "t.safetensors", a=torch.ones(8), b=torch.ones(8, 8))
    whole = path.read_bytes()
    for damaged in (*(whole[: len(whole) * part // 16] for part in range(16)), whole + b"\0", whole + whole):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="must be safetensors"):
            read_tensors(path)
