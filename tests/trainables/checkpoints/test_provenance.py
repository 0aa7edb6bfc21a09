"""Tests that `provenance.json` and the model card describe an adapter completely."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from small_trials import ANYTHING_GOES, SpecMaker, whole_run

from trainables.checkpoints.base_lookup import base_name
from trainables.checkpoints.lineage import origin_of
from trainables.checkpoints.provenance import describe_best
from trainables.io.files import read_json
from trainables.model.families import LinearShape
from trainables.model.placement import ResolvedPlacement
from trainables.probes.probe import Baseline
from trainables.record import Measurement
from trainables.spec import Placement, parse_spec

if TYPE_CHECKING:
    from trainables.engine import Engine


def test_the_summary_fields_and_what_decided_the_result(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    spec = make_spec(seed=3, data_seed=5)
    record = whole_run(engine, spec, tmp_path / "stage4" / "trials" / "C1", baseline, constraint=ANYTHING_GOES)
    kept = read_json(record.directory / "best" / "provenance.json")
    best = record.best()
    assert best is not None
    measured = {(one.kind, one.step): one.metrics for one in record.measurements()}
    assert (kept["phase"], kept["method"], kept["base_model"]) == ("stage4 - Training", "LoRA", spec.base.path.name)
    assert kept["final_metrics"] == {
        "train_loss": measured[("eval", best.step)]["train_loss"],
        "eval_loss": measured[("eval", best.step)]["eval_loss"],
        "steps": best.step,
    }
    assert Path(kept["checkpoint"]) == record.directory / "best"
    assert parse_spec(kept["spec"]) == spec
    assert kept["seeds"] == {"adapter_and_dropout": 3, "data_order": 5}
    for name, source in (("train", spec.train), ("validation", spec.validation), ("ood", spec.ood)):
        lines = [line for line in source.path.read_text(encoding="utf-8").split("\n") if line]
        assert kept["data"][name] == {"path": str(source.path), "sha256": source.sha256, "rows": len(lines)}
    cost = measured[("train", best.step)]
    assert kept["cost"] == {key: cost[key] for key in ("train_seconds", "eval_seconds", "peak_memory_mb")}
    placed = read_json(record.directory / "placement.json")
    assert kept["parameters"] == {tower: one["parameters"] for tower, one in placed.items()}
    assert kept["mlflow"] == {"experiment": "stage4", "filter": f"tags.`trial.id` = '{spec.trial_id}'"}
    assert set(kept["versions"]) >= {"torch", "peft", "transformers", "bitsandbytes"}
    assert {"hardware", "platform", "source", "written_at", "labels", "lineage"} <= set(kept)
    origin = origin_of(record.directory / "best")
    assert origin is not None and origin.step == best.step, "its readers still read it"
    json.dumps(kept, allow_nan=False)


@pytest.mark.parametrize(
    ("constraint", "chosen"),
    [
        ({"max_text_retention_drop": 0.1}, "the lowest eval loss with text retention at most 0.1 below the base's."),
        (
            {"max_irrelevant_pass_drop": 0.1, "max_hallucination_rise": 0.2},
            "the lowest eval loss with irrelevant pass at most 0.1 below the base's and hallucination at most 0.2 "
            "above the base's.",
        ),
        (None, "the lowest admissible eval loss."),
    ],
)
def test_the_model_card_names_the_constraint_that_was_used_and_the_towers_that_were_adapted(
    make_spec: SpecMaker, tmp_path: Path, constraint: dict[str, float] | None, chosen: str
) -> None:
    directory = tmp_path / "commands" / "trials" / "L2" / ".best.tmp"
    directory.mkdir(parents=True)
    if constraint:
        (tmp_path / "commands" / "study.json").write_text(json.dumps({"constraint": constraint}))
    spec = make_spec(placement=Placement(language=2, vision=0))
    linears = (LinearShape("model.layers.7.self_attn.q_proj", 8, 4),)
    placement = ResolvedPlacement({"language": linears, "vision": ()})
    measured = {"train_loss": 1.0, "eval_loss": 1.5, "text_retention": 0.9}
    best = Measurement("eval", 10, measured)
    describe_best(directory, spec, placement, best, Baseline(measured, {}), torch.device("cpu"), {})
    card = (directory / "README.md").read_text()
    assert chosen in card
    assert f"# {spec.name}: LoRA on the last 2 language layers\n" in card and "vision" not in card
    assert f"Adapted at rank {spec.rank}: language 1 modules, {12 * spec.rank:,} parameters." in card


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("models/Qwen2.5-Coder-7B-Instruct", "Qwen2.5-Coder-7B-Instruct"),
        ("hub/models--Qwen--Qwen3-VL-4B-Instruct/snapshots/0123abcd", "Qwen/Qwen3-VL-4B-Instruct"),
    ],
)
def test_a_snapshot_of_the_hub_is_known_by_its_name_there(path: str, name: str) -> None:
    assert base_name(Path(path)) == name
