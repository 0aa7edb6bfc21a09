"""Tests `sweeps.explain`: what it finds, what it refuses, and what arms share."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_families import TINY_EXPERTS, tiny_config, tiny_vision_config
from typer.testing import CliRunner

from sweeps.explain import main
from sweeps.explaining.configuration import config_file, find_base
from sweeps.explaining.explanation import Explanation, PlacementQuestion, explain
from sweeps.explaining.text import COLUMNS, lines_of
from sweeps.stage4 import STUDY
from trainables.errors import UserError
from trainables.mini import BASE_DIRECTORY
from trainables.model.families import family_of
from trainables.model.module_kinds import is_of_kind
from trainables.model.placement import resolve
from trainables.spec import Placement

LAYERS, BLOCKS = 8, 12  # of the miniature


def explained(base: str | Path, language: int = 2, vision: int = 4, modules: str = "mlp") -> Explanation:
    return explain(
        find_base(str(base)), PlacementQuestion(Placement(language=language, vision=vision), modules, 16, STUDY)
    )


def written(config: Any, directory: Path) -> Path:
    (directory / "config.json").write_text(config.to_json_string(use_diff=True), encoding="utf-8")
    return directory


@pytest.mark.parametrize("kind", ["attention", "mlp", "gate-up", "all"])
def test_the_modules_are_those_of_the_placement_that_are_of_the_kind(kind: Any) -> None:
    family, config = family_of(BASE_DIRECTORY)
    whole = resolve(Placement(language=2, vision=4), family.towers(config))
    found = explained(BASE_DIRECTORY, modules=kind)
    for tower, facts in found.towers.items():
        meant = [one for one in whole.linears[tower] if is_of_kind(one.name.rsplit(".", 1)[1], kind)]
        assert list(facts.modules) == [one.name for one in meant]
        assert facts.parameters == sum(16 * (one.inputs + one.outputs) for one in meant)
    assert found.towers["language"].frozen == LAYERS - 2
    assert found.towers["vision"].frozen == BLOCKS - 4


def test_arms_share_what_is_frozen_in_both_and_no_language_layer_once_pictures_differ() -> None:
    shared = {one.arm: one for one in explained(BASE_DIRECTORY, 2, 0, "all").shared}
    assert (shared["A1"].vision_blocks, shared["A1"].language_layers) == (BLOCKS, LAYERS - 2)
    assert (shared["A2"].vision_blocks, shared["A2"].language_layers) == (BLOCKS, LAYERS - 4)
    assert (shared["C2"].vision_blocks, shared["C2"].language_layers) == (BLOCKS - 4, 0)
    assert shared["C2"].language_layers_without_pictures == LAYERS - 2
    assert "A0" not in shared


@pytest.mark.parametrize("family", TINY_EXPERTS)
def test_a_family_that_shares_nothing_says_so_and_what_is_not_quantized(family: str, tmp_path: Path) -> None:
    found = explained(written(tiny_config(family), tmp_path), 2, 0, "attention")
    lines = "\n".join(lines_of(found))
    assert not found.shares
    assert "train one after another" in lines
    assert f"{found.experts:.1%} of them are experts" in lines
    on_experts = explained(tmp_path, 2, 0, "experts")
    assert all(".experts." in name for name in on_experts.towers["language"].modules)
    assert on_experts.towers["language"].frozen == 2
    with pytest.raises(UserError, match="must have modules of the kind mlp") as output:
        explained(tmp_path, 2, 0, "mlp")
    assert output.value.hint == "--modules experts adapts the experts"


def test_prose_fits_a_narrow_terminal_and_expressions_stay_whole(tmp_path: Path) -> None:
    for base in (BASE_DIRECTORY, written(tiny_vision_config("qwen3_vl_moe"), tmp_path)):
        lines = list(lines_of(explained(base, modules="attention")))
        long = [line for line in lines if len(line) > COLUMNS]
        assert [line for line in long if not re.search(r"model|--|^/", line)] == []  # no name is broken
        assert long


def test_json_is_the_explanation(tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(main)
    words = ["--base", str(BASE_DIRECTORY), "--language", "2", "--vision", "4", "--modules", "mlp", "--json"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    values = json.loads(found.stdout)
    own = explained(BASE_DIRECTORY)
    assert values["towers"]["vision"]["modules"] == list(own.towers["vision"].modules)
    assert [one["tool"] for one in values["expressions"]] == [one.tool for one in own.expressions]


# -------------------------------------------------------------------- what is refused
def test_a_base_is_a_directory_a_file_or_a_cached_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_file(str(BASE_DIRECTORY)) == BASE_DIRECTORY / "config.json"
    assert config_file(str(BASE_DIRECTORY / "config.json")) == BASE_DIRECTORY / "config.json"
    commit, repository = "a" * 40, tmp_path / "models--some--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    shutil.copy(BASE_DIRECTORY / "config.json", snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    assert config_file("some/model") == snapshot / "config.json"


@pytest.mark.parametrize("base", ["no/such-model", "no/such..model"])
def test_an_id_that_is_not_cached_says_how_to_point_to_a_directory(base: str) -> None:
    with pytest.raises(UserError, match=f"nothing is downloaded here, but {base} has none") as output:
        find_base(base)
    assert "pass --base DIR" in (output.value.hint or "")
    assert f"hf download {base} config.json" in (output.value.hint or "")


@pytest.mark.parametrize("base", ["nowhere", "./some/model", "/no/such/directory", "a/b/c"])
def test_what_is_no_id_and_no_file_is_refused(base: str) -> None:
    with pytest.raises(UserError, match=r"must be a directory with config\.json, that file, or a model id"):
        find_base(base)


def test_a_config_that_contradicts_its_weights_is_refused(tmp_path: Path) -> None:
    base = Path(shutil.copytree(BASE_DIRECTORY, tmp_path / "base"))
    values = json.loads((base / "config.json").read_text())
    values["text_config"]["num_hidden_layers"] = LAYERS + 1
    (base / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"must have as many layers as its config\.json says"):
        find_base(str(base))
    (alone := tmp_path / "alone").mkdir()
    shutil.copy(base / "config.json", alone)
    assert not find_base(str(alone)).has_weights


def test_broken_and_unknown_configurations_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text, said in (
        ("{", "config.json"),
        ('{"model_type": "mamba"}', "must be a known family, but got `mamba`"),
        ('{"model_type": "llama"}', "`num_hidden_layers` is missing"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            find_base(str(path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"language": 0, "vision": 0}, "must adapt a layer"),
        ({"language": 99}, "asks for the last 99 of 8 language layers"),
        ({"modules": "attn"}, "--modules must be one of attention, mlp, gate-up, all, experts, but got attn"),
        ({"modules": "experts"}, "needs a base with experts"),
    ],
)
def test_a_placement_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        explained(BASE_DIRECTORY, **changes)
