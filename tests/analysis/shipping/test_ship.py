"""Tests what is shipped: files without paths of this machine, the card, and that wrong numbers are not shipped."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from analysis.cli import main
from analysis.conclusion import Conclusion, pick_among
from analysis.probabilities import chance
from analysis.shipping.chosen import ChosenAdapter, NothingToShip, chosen
from analysis.shipping.ship import NotShipped, ShippingOptions, ship
from trainables.errors import ExitCode, UserError
from trainables.measurement import Measurement
from trainables.record import ADAPTERS
from trainables.shipping.job import ShippingJob
from trainables.shipping.machine_paths import machine_paths_in

MODULE = "base_model.model.layer"
WEIGHTS = "adapter_model.safetensors"


def as_recorded(choice: ChosenAdapter) -> Callable[[ShippingJob], Measurement]:
    return lambda job: choice.measured


def change_of(directory: Path) -> np.ndarray:
    """Return the weight change of the only module."""
    tensors, config = load_file(directory / WEIGHTS), json.loads((directory / "adapter_config.json").read_text())
    return config["lora_alpha"] / config["r"] * tensors[f"{MODULE}.lora_B.weight"] @ tensors[f"{MODULE}.lora_A.weight"]


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
    kept = choice.record.adapter_at(choice.measured.step)
    assert kept is not None and (out / WEIGHTS).read_bytes() == (kept / WEIGHTS).read_bytes()
    assert not any(str(tmp_path) in one.read_text(errors="replace") for one in out.iterdir())
    card = (out / "README.md").read_text()
    for words in ("not stated in its files", "--enable-tower-connector-lora", "irrelevant_pass, limit 0.8", "[0.",
                  "PeftModel", choice.spec.base.sha256, "A fresh process loaded this directory",
                  "1 (as trained)"):  # fmt: skip
        assert words in card
    assert "before --scale" not in card


@pytest.mark.parametrize(
    ("arm", "name", "size"),
    [("C2 @ 60", "C2 @ 60", 4.0), ("C2@60x.50", "C2 @ 60 x 0.5", 2.0), ("C2 @ 90 average", "C2 @ 90 average", 14 / 3)],
)
def test_a_named_candidate_is_shipped_and_said_to_be_named(
    found: Conclusion, tmp_path: Path, arm: str, name: str, size: float
) -> None:
    choice = chosen(found, arm)
    assert choice.name == name and choice.why.startswith(f"{name} was named by --arm, not picked; a new seed meets")
    shipment = ship(choice, ShippingOptions(), tmp_path / "shipped", as_recorded(choice))
    assert shipment.agreements, "it is compared with its own eval"
    # the adapters of the three evals are 1, 2 and 3 times a vector, so that the changes are 1, 4 and 9 times its square
    assert change_of(tmp_path / "shipped")[0, 0] == pytest.approx(2.0 * size)
    assert json.loads((tmp_path / "shipped" / "provenance.json").read_text())["candidate"] == choice.measured.scale


def test_the_pick_named_by_its_name_is_said_to_be_the_pick(found: Conclusion) -> None:
    assert found.choice.picked is not None
    name = found.choice.picked.name
    assert chosen(found, name).why.startswith(f"{name} was named by --arm, and is the pick; a new seed meets")


def test_a_derived_pick_is_shipped_without_more_options(found: Conclusion, tmp_path: Path) -> None:
    derived = pick_among(found, ["C2 @ 60 x 0.5"])
    assert derived.picked is not None and derived.picked.candidate.is_derived
    choice = chosen(replace(found, choice=derived), "")
    ship(choice, ShippingOptions(), tmp_path / "shipped", as_recorded(choice))
    assert change_of(tmp_path / "shipped")[0, 0] == pytest.approx(4.0)
    assert "| strength | 0.5 of what was trained |" in (tmp_path / "shipped" / "README.md").read_text()


def test_an_arm_is_shipped_by_its_own_best_candidate_by_the_same_evidence(found: Conclusion) -> None:
    choice = chosen(found, "B2")
    judged = next(one for one in found.choice.judged if one.name == choice.name)
    assert choice.arm == "B2" and f"with probability {chance(judged.admissible, 0.9)}" in choice.why
    assert "of arm B2, which --arm named" in choice.why


def test_an_arm_below_the_level_is_refused_with_its_nearest_and_the_words_that_ship_it(found: Conclusion) -> None:
    strict = replace(found, choice=replace(found.choice, level=0.9999))
    with pytest.raises(NothingToShip, match="no arm D3 of `stage4` has one; the nearest: D3 @ ") as refused:
        chosen(strict, "D3", ["--level", "0.9999", "--tracking-uri", "http://127.0.0.1:5000"])
    assert refused.value.exit_code == ExitCode.CHECK_FAILED
    words = "pareto --experiment stage4 --level 0.9999 --tracking-uri http://127.0.0.1:5000` says what"
    assert words in str(refused.value.hint)
    named = str(refused.value.hint).partition("--arm '")[2].partition("'")[0]
    assert chosen(strict, named).name == named
    assert ", below the level of 0.9999." in chosen(strict, named).why


@pytest.mark.parametrize(
    ("arm", "says", "hint"),
    [
        ("C22", "must be an arm of `stage4` that trained, or a candidate", "did you mean `C2`?"),
        ("C2 @ 61", "but got `C2 @ 61`", "did you mean `C2 @ 60`?"),
        ("C2 @ 60 x 0.4", "but got `C2 @ 60 x 0.4`", "did you mean `C2 @ 60 x 0.5`?"),
        ("A0", "must be an arm of `stage4` that trained", "known: |did you mean|nearest"),
        ("C2 @ 60 x -1", "a scale must be a number above 0 and below 1", "for example 0.5"),
        ("C2 @ 60 x nan", "a scale must be a number above 0 and below 1", "for example 0.5"),
        ("C2 @", "must be named by arm and step", "for example 'C2 @ 60'"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_nearest(found: Conclusion, arm: str, says: str, hint: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)) as refused:
        chosen(found, arm)
    assert refused.value.exit_code == ExitCode.BAD_INPUT and re.search(hint, str(refused.value.hint))


def test_pruned_adapters_are_said_to_be_and_those_that_are_kept(found: Conclusion) -> None:
    for trial in found.study.trials:
        shutil.rmtree(Path(str(trial.record)) / ADAPTERS / "step-60", ignore_errors=True)
    with pytest.raises(
        UserError, match="step 60 must be kept, but it is not; kept are those of step 30, 90"
    ) as refused:
        chosen(found, "C2 @ 60")
    assert "--keep all" in str(refused.value.hint)
    with pytest.raises(UserError, match="step 60 must be kept"):
        chosen(found, "C2 @ 90 average")


def test_a_changed_adapter_is_refused_before_anything_is_loaded(found: Conclusion) -> None:
    for trial in found.study.trials:
        for path in Path(str(trial.record)).glob(f"{ADAPTERS}/*/{WEIGHTS}"):
            path.write_bytes(b"other")
    with pytest.raises(UserError, match="every file must be as it was written, but one is not"):
        chosen(found, "")


def test_a_strength_that_was_measured_is_compared_with_its_eval_and_another_with_the_records_adapter(
    found: Conclusion, tmp_path: Path
) -> None:
    choice = chosen(found, "C2 @ 60")
    with pytest.raises(NotShipped, match="eval_loss"):
        ship(choice, ShippingOptions(scale=0.5), tmp_path / "half", as_recorded(choice))
    at_half = next(one for one in choice.evals if one.scale == "0.5")
    half = ship(choice, ShippingOptions(scale=0.5), tmp_path / "half", lambda job: replace(at_half, step=0))
    assert half.agreements and change_of(tmp_path / "half")[0, 0] == pytest.approx(4.0)
    provenance = json.loads((tmp_path / "half" / "provenance.json").read_text())
    assert (provenance["step"], provenance["scale"], provenance["metrics"]["eval_loss"]) == (60, 0.5, 7.5)
    assert "| eval_loss | lower | 1.5000 | 7.5000 |" in (tmp_path / "half" / "README.md").read_text()
    jobs: list[ShippingJob] = []
    other = ship(choice, ShippingOptions(scale=0.25), tmp_path / "other", lambda job: jobs.append(job) or at_half)
    assert [(one.form, one.scale) for one in jobs] == [("adapter", 1.0), ("placed", 0.25)]
    assert other.agreements and "applied as in training" in other.compared_with
    quarter = chosen(found, "C2 @ 60 x 0.5")
    ship(quarter, ShippingOptions(scale=0.5), tmp_path / "quarter", as_recorded(quarter))
    assert change_of(tmp_path / "quarter")[0, 0] == pytest.approx(2.0)


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


def test_a_scaled_adapter_has_a_scaled_alpha_and_says_what_it_was_compared_with(
    choice: ChosenAdapter, tmp_path: Path
) -> None:
    shipment = ship(choice, ShippingOptions(scale=0.25), tmp_path / "shipped", as_recorded(choice))
    assert shipment.agreements
    assert json.loads((tmp_path / "shipped" / "adapter_config.json").read_text())["lora_alpha"] == 8.0
    card = (tmp_path / "shipped" / "README.md").read_text()
    assert "no eval of this strength is recorded" in card
    assert f"{choice.why} This was judged before --scale; at 0.25 of it only what is measured below is known." in card


def test_a_strength_that_loads_as_another_is_not_shipped(choice: ChosenAdapter, tmp_path: Path) -> None:
    """PEFT's loader gives the numbers of full strength, the record's adapter at 0.25 gives others."""
    at_quarter = replace(choice.measured, metrics={**choice.measured.metrics, "eval_loss": 7.5})
    with pytest.raises(NotShipped, match="eval_loss"):
        ship(choice, ShippingOptions(scale=0.25), tmp_path / "shipped",
             lambda job: at_quarter if job.form == "placed" else choice.measured)  # fmt: skip
    assert not (tmp_path / "shipped").exists()


@pytest.mark.parametrize("scale", [-0.01, 1.01, float("nan")])
def test_a_scale_outside_of_0_and_1_is_refused(choice: ChosenAdapter, tmp_path: Path, scale: float) -> None:
    with pytest.raises(UserError, match="--scale must be from 0"):
        ship(choice, ShippingOptions(scale=scale), tmp_path / "shipped", as_recorded(choice))


def test_a_directory_with_files_is_refused(choice: ChosenAdapter, tmp_path: Path) -> None:
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "mine.txt").touch()
    with pytest.raises(UserError, match="must be a new or an empty directory"):
        ship(choice, ShippingOptions(), tmp_path / "shipped", as_recorded(choice))


def test_the_directory_is_refused_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(SystemExit) as ended:
        main(["ship", "--experiment", "none", "--tracking-uri", "sqlite:///none/none.db", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "error: --out must be a new or an empty directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "is_found"),
    [
        ("a.json", '{"base": "/usr/bin"}', True),
        ("a.md", "see /usr/bin/env there", True),
        ("a.md", "https://example.org/usr/bin and L2/V4 and a/usr/bin", False),
        ("a.json", '{"path": "/no/such/path/here"}', False),
        ("tokenizer.json", '{"vocab": {"/usr/bin": 1}}', False),
        ("tokenizer.json", '{"vocab": {"KNOWN": 1, "KNOWN/x": 2}}', False),
        ("tokenizer_config.json", '{"name_or_path": "KNOWN/base"}', True),
        ("a.json", '{"base": "KNOWN"}', True),
        ("a.json", '{"base": "KNOWN-other"}', False),
        ("a.json", '{"base": "KNOWN.json"}', False),
        ("a.json", '{"uri": "sqlite:///KNOWN/mlflow.db"}', True),
        ("a.md", "Trained in KNOWN.", True),
        ("a.md", "https://example.orgKNOWN/x and ..KNOWN", False),
        ("a.bin", "KNOWN/x", False),
    ],
)
def test_paths_of_this_machine_are_found(tmp_path: Path, name: str, text: str, is_found: bool) -> None:
    known = tmp_path / "records"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(text.replace("KNOWN", str(known)))
    assert bool(machine_paths_in(tmp_path / "out", [known])) is is_found


def test_weights_are_searched_by_their_header_alone(tmp_path: Path) -> None:
    import numpy as np

    known, out = tmp_path / "records", tmp_path / "out"
    out.mkdir()
    weights = np.frombuffer(f"{known}/x".encode(), dtype=np.uint8)
    save_file({"w": weights}, out / "w.safetensors", metadata={"format": "pt"})
    assert str(known).encode() in (out / "w.safetensors").read_bytes()
    assert machine_paths_in(out, [known]) == {}
    save_file({"w": weights}, out / "w.safetensors", metadata={"source": f"{known}/x"})
    assert machine_paths_in(out, [known]) == {"w.safetensors": str(known)}
