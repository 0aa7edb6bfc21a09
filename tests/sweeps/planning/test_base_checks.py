"""Bases that trials cannot be trained on are refused by the plan, before anything is spent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import invoke
from planned_trials import trial

from sweeps.planning.base_checks import check_base
from sweeps.planning.sources import gather
from sweeps.smoke import STUDY
from trainables.errors import UserError
from trainables.mini import BASE_DIRECTORY, datasets
from trainables.spec import Source


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> datasets.Files:
    return datasets.write(tmp_path_factory.mktemp("rows") / "data", 0)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BASE_DIRECTORY, tmp_path / "base"))


def beside(name: str, text: str) -> Callable[[Path], object]:
    return lambda base: (base / name).write_text(text)


def declare_gptq(base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (base / "config.json").write_text(json.dumps(config))


def lose_a_block(base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    config["vision_config"]["depth"] += 1
    (base / "config.json").write_text(json.dumps(config))


def cut(base: Path) -> None:
    content = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(content[: len(content) // 2])


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "an adapter": (beside("adapter_config.json", "{}"), "also holds `adapter_config.json`"),
    "a quantization of another tool": (declare_gptq, "is stored as gptq"),
    "a block less than declared": (lose_a_block, "in the vision tower"),
    "half a file": (cut, "must be a whole safetensors file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_base_with_a_fault_is_refused_before_its_weights_are_hashed(
    fault: str, base: Path, files: datasets.Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.planning.sources.hashed_base", lambda *_: pytest.fail("hashed"))
    FAULTS[fault][0](base)
    with pytest.raises(UserError) as caught:
        gather(str(base), files.train, files.validation, files.ood, tmp_path / "data")
    assert FAULTS[fault][1] in caught.value.message


@pytest.mark.parametrize("option", [(), ("--force",)])
def test_a_dry_run_refuses_what_a_worker_refuses_even_if_forced(
    option: tuple[str, ...], base: Path, files: datasets.Files, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    lose_a_block(base)
    words = ("--base", base, "--train", files.train, "--val", files.validation, "--ood", files.ood, "--dry-run")
    assert invoke(STUDY, monkeypatch, *map(str, words), *option) == 2
    assert "a base must have as many layers as its config.json says" in capsys.readouterr().err


def test_trials_in_another_quantization_than_the_base_is_stored_in_are_named(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeps.planning import base_checks
    from trainables.model.stored_base import StoredBase, read_base

    read = read_base(base)
    stored = StoredBase(base, read.family, read.config, read.weights, "nf4")
    monkeypatch.setattr(base_checks, "read_base", lambda _: stored)
    source = Source(path=base, sha256="base")
    check_base([trial(base=source, quantization="nf4")])
    with pytest.raises(UserError) as caught:
        check_base([trial(base=source, name=f"Q-{one}", quantization=one) for one in ("none", "nf4", "int8")])
    assert "is stored in nf4, and Q-none, Q-int8 ask for none, int8" in caught.value.message
    assert (caught.value.hint or "").startswith("--quant nf4; or use the base that it was made from")
