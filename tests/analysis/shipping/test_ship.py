"""Tests what is shipped: files without paths of this machine, the card, and that wrong numbers are not shipped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_study import made_up_study

from analysis.contenders import pick_of
from analysis.objectives import frontier_objectives
from analysis.shipping.chosen import ChosenAdapter, chosen
from analysis.shipping.ship import NotShipped, ShippingOptions, ship
from trainables.errors import ExitCode, UserError
from trainables.io.files import write_json
from trainables.record import Measurement, Record
from trainables.shipping.job import ShippingJob
from trainables.shipping.machine_paths import machine_paths_in

WEIGHTS = b"made-up weights"


@pytest.fixture
def choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChosenAdapter:
    """The pick of a made-up study, with a made-up adapter; sources are not compared with their digests."""
    monkeypatch.setattr("analysis.shipping.ship.check_sources", lambda specs: None)
    study, measured = made_up_study(tmp_path)
    objectives = frontier_objectives("irrelevant_pass", "exact_match", ())
    picked = pick_of(study, measured, objectives).shipped
    assert picked is not None
    record = Record(Path(str(picked.chosen.trial.record)))
    config = {"peft_type": "LORA", "r": 16, "lora_alpha": 32.0, "lora_dropout": 0.1, "target_modules": ["q_proj"],
              "base_model_name_or_path": str(tmp_path / "base")}  # fmt: skip
    with record.saving(f"checkpoints/step-{picked.chosen.measured.step}") as directory:
        (directory / "adapter_model.safetensors").write_bytes(WEIGHTS)
        write_json(directory / "adapter_config.json", config)
    tower = {"modules": ["q_proj"], "parameters": 64}
    write_json(record.directory / "placement.json", {"language": tower, "vision": tower})
    return chosen(study, measured, objectives, "")


def as_recorded(choice: ChosenAdapter) -> Callable[[ShippingJob], Measurement]:
    return lambda job: choice.measured


def test_the_directory_holds_peft_files_card_and_digests_without_a_path_of_this_machine(
    choice: ChosenAdapter, tmp_path: Path
) -> None:
    out = tmp_path / "shipped"
    ship(choice, ShippingOptions(), out, as_recorded(choice))
    assert {one.name for one in out.iterdir()} == {
        "adapter_model.safetensors", "adapter_config.json", "README.md", "provenance.json", "manifest.json"
    }  # fmt: skip
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base" and config["lora_alpha"] == 32.0
    assert (out / "adapter_model.safetensors").read_bytes() == WEIGHTS
    assert not any(str(tmp_path) in one.read_text(errors="replace") for one in out.iterdir())
    card = (out / "README.md").read_text()
    for words in ("not stated in its files", "--enable-tower-connector-lora", "irrelevant_pass, limit 0.8", "[0.",
                  "PeftModel", choice.spec.base.sha256, "A fresh process loaded this directory"):  # fmt: skip
        assert words in card


@pytest.mark.parametrize(("metric", "change"), [("eval_loss", 0.021), ("exact_match", -0.05)])
def test_other_numbers_are_not_shipped(choice: ChosenAdapter, tmp_path: Path, metric: str, change: float) -> None:
    rows = dict(choice.measured.rows)
    if metric in rows:
        values = dict(rows[metric].values)
        for row in [row for row, value in values.items() if value][:6]:
            values[row] = 0.0
        rows[metric] = replace(rows[metric], values=values)
    wrong = replace(
        choice.measured,
        metrics={**choice.measured.metrics, metric: choice.measured.metrics[metric] + change},
        rows=rows,
    )
    with pytest.raises(NotShipped, match=metric) as refused:
        ship(choice, ShippingOptions(), tmp_path / "shipped", lambda job: wrong)
    assert refused.value.exit_code == ExitCode.CHECK_FAILED
    assert [one.name for one in tmp_path.iterdir() if "shipped" in one.name] == []


def test_a_scaled_adapter_has_a_scaled_alpha_and_says_that_nothing_was_compared(
    choice: ChosenAdapter, tmp_path: Path
) -> None:
    shipment = ship(choice, ShippingOptions(scale=0.25), tmp_path / "shipped", as_recorded(choice))
    assert shipment.agreements == ()
    assert json.loads((tmp_path / "shipped" / "adapter_config.json").read_text())["lora_alpha"] == 8.0
    assert "nothing to compare with" in (tmp_path / "shipped" / "README.md").read_text()


@pytest.mark.parametrize("scale", [-0.01, 1.01])
def test_a_scale_outside_of_0_and_1_is_refused(choice: ChosenAdapter, tmp_path: Path, scale: float) -> None:
    with pytest.raises(UserError, match="--scale must be from 0"):
        ship(choice, ShippingOptions(scale=scale), tmp_path / "shipped", as_recorded(choice))


def test_a_directory_with_files_is_refused(choice: ChosenAdapter, tmp_path: Path) -> None:
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "mine.txt").touch()
    with pytest.raises(UserError, match="must be a new or an empty directory"):
        ship(choice, ShippingOptions(), tmp_path / "shipped", as_recorded(choice))


def test_a_changed_adapter_is_refused(choice: ChosenAdapter, tmp_path: Path) -> None:
    (choice.adapter / "adapter_model.safetensors").write_bytes(b"other")
    study, measured = made_up_study(tmp_path)
    with pytest.raises(UserError, match="must be there whole"):
        chosen(study, measured, frontier_objectives("irrelevant_pass", "exact_match", ()), "")


def test_an_unknown_arm_is_refused_with_the_nearest(tmp_path: Path) -> None:
    study, measured = made_up_study(tmp_path)
    with pytest.raises(UserError, match="--arm must be an arm of `stage4`") as refused:
        chosen(study, measured, frontier_objectives("irrelevant_pass", "exact_match", ()), "C22")
    assert refused.value.hint == "did you mean `C2`?"


@pytest.mark.parametrize(
    ("name", "text", "is_found"),
    [
        ("a.json", '{"base": "/usr/bin"}', True),
        ("a.md", "see /usr/bin/env there", True),
        ("a.md", "https://example.org/usr/bin and L2/V4 and a/usr/bin", False),
        ("a.json", '{"path": "/no/such/path/here"}', False),
        ("tokenizer.json", '{"vocab": {"/usr/bin": 1}}', False),
        ("w.safetensors", "header KNOWN/x", True),
    ],
)
def test_paths_of_this_machine_are_found(tmp_path: Path, name: str, text: str, is_found: bool) -> None:
    known = tmp_path / "records"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(text.replace("KNOWN", str(known)))
    assert bool(machine_paths_in(tmp_path / "out", [known])) is is_found
