"""A made-up study whose adapters can be shipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_study import made_up_study
from safetensors.numpy import save_file

from analysis.conclusion import Conclusion, conclude
from analysis.objectives import frontier_objectives
from analysis.shipping.chosen import ChosenAdapter, chosen
from trainables.io.files import write_json
from trainables.record import ADAPTERS, Record

OBJECTIVES = frontier_objectives("irrelevant_pass", "exact_match", ())
MODULE = "base_model.model.layer"
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Conclusion:
    """The conclusion of a made-up study with small adapters, and with copies of C2 that were measured later.

    Sources are not compared with their digests.
    """
    monkeypatch.setattr("analysis.shipping.ship.check_sources", lambda specs: None)
    study, measured = made_up_study(tmp_path)
    for trial in study.trials:
        record, evals = Record(Path(str(trial.record))), measured[trial.run_id]
        for at, step in enumerate(one.step for one in record.evals() if one.step > 0):
            _keep_adapter(record, step, float(at + 1), tmp_path / "base")
        if trial.arm == "C2":
            whole = [one for one in evals if one.kind == "eval"]
            halves = [replace(one, scale="0.5", metrics={**one.metrics, "eval_loss": 7.5}) for one in whole]
            measured[trial.run_id] = [*evals, *halves, replace(whole[-1], scale="average")]
    return conclude(study, measured, OBJECTIVES)


def _keep_adapter(record: Record, step: int, size: float, base: Path) -> None:
    config = {"peft_type": "LORA", "r": 16, "lora_alpha": 32.0, "lora_dropout": 0.1, "target_modules": ["layer"],
              "base_model_name_or_path": str(base)}  # fmt: skip
    one = np.zeros((16, 4), np.float32)
    one[0] = size
    with record.saving(f"{ADAPTERS}/step-{step}") as directory:
        save_file({f"{MODULE}.lora_A.weight": one, f"{MODULE}.lora_B.weight": one.T.copy()}, directory / WEIGHTS)
        write_json(directory / "adapter_config.json", config)
    tower = {"modules": ["layer"], "parameters": 64}
    write_json(record.directory / "placement.json", {"language": tower, "vision": tower})


@pytest.fixture
def choice(found: Conclusion) -> ChosenAdapter:
    return chosen(found, "")
