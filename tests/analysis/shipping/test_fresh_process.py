"""Tests `analysis ship` on a small real study: what a fresh process measures, and what others load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from small_trials import ANYTHING_GOES, few_rows, whole_run

from analysis.cli import main
from sweeps.rescale import main as rescale
from sweeps.tracking.sync import sync_all
from trainables.data.encoding import collate
from trainables.derived.copies import save_derived
from trainables.engine import Engine
from trainables.errors import ExitCode
from trainables.io.files import read_json
from trainables.mini import datasets
from trainables.model.lora import place
from trainables.model.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from trainables.model.placement import resolve
from trainables.probes.captions import captions_in
from trainables.probes.probe import Baseline
from trainables.record import ADAPTERS, Record
from trainables.spec import TrialSpec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STUDY = "few"
NOTHING_KNOWN = Baseline({"irrelevant_pass": 1.0, "hallucination": 0.0}, {}, {})


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> TrialSpec:
    """A trial of six steps with an eval after two, on a few rows."""
    sources = few_rows(datasets.write(tmp_path_factory.mktemp("data") / "mini", seed=0))
    return sources.spec(name="C2", arm="C2", steps=6, learning_rate=5e-3, vision_learning_rate=1e-2)


@pytest.fixture(scope="module")
def engine(spec: TrialSpec) -> Engine:
    torch.set_num_threads(1)
    return Engine.load(spec, torch.device("cpu"))


@pytest.fixture(scope="module")
def trained(spec: TrialSpec, engine: Engine, migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a study of one trial and its baseline, the copies measured, and a store that holds them."""
    directory = tmp_path_factory.mktemp("study")
    trials, known = directory / "runs" / STUDY / "trials", NOTHING_KNOWN
    for one in (spec.baseline(), spec):
        record = whole_run(engine, one, trials / f"{one.name}-{one.trial_id}", known, constraint=ANYTHING_GOES)
        first = record.evals()[0]
        known = Baseline(first.metrics, captions_in(record.samples(first.step)), first.counts)
    uri = f"sqlite:///{shutil.copy(migrated_database, directory / 'mlflow.db')}"
    with pytest.raises(typer.Exit) as ended:
        rescale(STUDY, scales="0.5", storage=directory / "runs", tracking_uri=uri)
    assert ended.value.exit_code == 0
    return directory


@pytest.fixture
def study(trained: Path, migrated_database: Path, tmp_path: Path) -> Path:
    """A copy of the study with a store of its own, whose runs name the copied records."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    sync_all(tmp_path / "runs" / STUDY, f"sqlite:///{shutil.copy(migrated_database, tmp_path / 'mlflow.db')}", STUDY)
    return tmp_path


def shipped(study: Path, *words: str) -> int:
    """Run the command, and return its exit code."""
    store = f"sqlite:///{study / 'mlflow.db'}"
    with pytest.raises(SystemExit) as ended:
        main(["ship", "--experiment", STUDY, "--tracking-uri", store, "--out", str(study / "shipped"), *words])
    return int(ended.value.code or 0)


def record_of(study: Path) -> Record:
    return Record(next((study / "runs" / STUDY / "trials").glob("C2-*")))


def logits_here(engine: Engine, record: Record, scale: str, further: float, scratch: Path) -> torch.Tensor:
    """Return the logits of one row, with an adapter that this process places as training does."""
    save_derived(record, 6, scale, scratch)
    alpha = float(read_json(scratch / ADAPTER_CONFIG)["lora_alpha"]) * further
    spec = record.spec().model_copy(update={"alpha": alpha})
    adapter = place(engine.base, spec, resolve(spec.placement, engine.base.towers, spec.target_modules))
    adapter.load(scratch)
    engine.base.model.eval()
    try:
        with torch.no_grad():
            return engine.base.model(**one_row(engine)).logits
    finally:
        adapter.remove()


def one_row(engine: Engine) -> dict[str, Any]:
    row = engine.evaluator.validation[0]
    return dict(collate([row], engine.encoder, torch.device("cpu"), pad_left=False).inputs)


def logits_of_others(engine: Engine, base: Path, out: Path) -> torch.Tensor:
    """Return the logits of one row with transformers and PEFT alone, as the card says it."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    is_adapter = (out / ADAPTER_CONFIG).exists()
    source = base if is_adapter else out
    model: Any = AutoModelForImageTextToText.from_pretrained(source, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, str(out)) if is_adapter else model
    with torch.no_grad():
        return model.eval()(**one_row(engine)).logits


@pytest.mark.parametrize(
    ("words", "scale", "further"),
    [
        (("--arm", "C2 @ 6"), "1", 1.0),
        (("--arm", "C2 @ 6", "--merge"), "1", 1.0),
        (("--arm", "C2 @ 6", "--scale", "0.5"), "1", 0.5),
        (("--arm", "C2 @ 6", "--scale", "0.3"), "1", 0.3),
        (("--arm", "C2 @ 6 average", "--scale", "0.4"), "average", 0.4),
        (("--arm", "C2 @ 6 average"), "average", 1.0),
    ],
)
def test_what_is_shipped_measures_as_recorded_and_others_load_the_same_model(
    study: Path,
    spec: TrialSpec,
    engine: Engine,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    scale: str,
    further: float,
) -> None:
    assert shipped(study, *words) == ExitCode.DONE
    output, out = capfd.readouterr(), study / "shipped"
    assert "✓ eval_loss: " in output.out and "✓ exact_match: " in output.out and "✗" not in output.out, output.out
    here = [str(one).encode() for one in (study, spec.base.path, Path.home()) if len(one.parts) > 1]
    named = [file.name for file in out.rglob("*") if file.is_file() and any(one in file.read_bytes() for one in here)]
    assert named == [], "a file names a path of this machine"
    expected = logits_here(engine, record_of(study), scale, further, study / "copy")
    torch.testing.assert_close(logits_of_others(engine, spec.base.path, out), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("fault", ["other weights", "no tensors", "changed file"])
def test_a_damaged_adapter_is_not_shipped(study: Path, capfd: pytest.CaptureFixture[str], fault: str) -> None:
    record, out = record_of(study), study / "shipped"
    out.mkdir()
    kept = record.adapter_at(6)
    assert kept is not None
    if fault == "changed file":
        for path in (kept, record.checkpoint(6), record.directory / "best"):
            if (path / ADAPTER_WEIGHTS).exists():
                (path / ADAPTER_WEIGHTS).write_bytes(b"changed")
    else:  # the manifest is that of the damaged file, so that only loading and measuring can find it
        tensors = {name: torch.zeros_like(one) for name, one in load_file(kept / ADAPTER_WEIGHTS).items()}
        config = (kept / ADAPTER_CONFIG).read_bytes()
        with record.saving(f"{ADAPTERS}/step-6") as directory:
            (directory / ADAPTER_CONFIG).write_bytes(config)
            save_file(tensors, directory / ADAPTER_WEIGHTS)
            if fault == "no tensors":
                (directory / ADAPTER_WEIGHTS).write_bytes(b"changed")
    code = shipped(study, "--arm", "C2 @ 6")
    error = capfd.readouterr().err
    assert code == (ExitCode.CHECK_FAILED if fault == "other weights" else ExitCode.BAD_INPUT), error
    assert "Traceback" not in error
    assert "what is loaded must measure as recorded, but eval_loss" in error or "error:" in error
    assert [*out.iterdir()] == [] and not [*study.glob(".shipped*")], "the directory is as it was"
