"""Tests held-out validation with a real base, real adapters and a real MLflow store."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ended import Ended, ended
from small_trials import ANYTHING_GOES, Sources, SpecMaker, train_to, whole_run

from trainables.checkpoints.lineage import read_origin
from trainables.data.rows import read_rows
from trainables.evaluation.held_out import sampled_rows
from trainables.io.manifest import is_whole
from trainables.probes.probe import Baseline
from trainables.validate import main

if TYPE_CHECKING:
    from trainables.engine import Engine


Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def best(engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train an adapter for a few steps, and store it where a sweep would."""
    directory = tmp_path_factory.mktemp("runs") / "stage4" / "trials" / "C1-0"
    spec = make_spec(learning_rate=2e-2, vision_learning_rate=2e-2)
    return whole_run(engine, spec, directory, baseline, constraint=ANYTHING_GOES).directory / "best"


@pytest.fixture
def database(migrated_database: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(migrated_database, tmp_path / "mlflow.db"))


@pytest.fixture
def run(best: Path, sources: Sources) -> Run:
    """Run the command on the CPU without a store, unless the arguments say otherwise."""

    def command(*arguments: str, data: Path = sources.validation.path, checkpoint: Path = best,
                store: str = "none", cpu: str = "--allow-cpu") -> Ended:  # fmt: skip
        fixed = ["--checkpoint-dir", str(checkpoint), "--data-path", str(data), "--tracking-uri", store]
        return ended(main, *fixed, *filter(None, [cpu]), *arguments)

    return command


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# -------------------------------------------------------------------- the command
def test_answers_are_printed_written_and_equal_those_of_the_evals(
    run: Run, best: Path, sources: Sources, engine: Engine, make_spec: SpecMaker, tmp_path: Path
) -> None:
    from trainables.model.lora import place
    from trainables.model.placement import resolve
    from trainables.probes.question import ask_validation

    done = run("--sample-size", "0", "--output-jsonl", str(tmp_path / "new" / "out.jsonl"))
    assert done.exit_code == 0, done.output
    answers = lines_of(tmp_path / "new" / "out.jsonl")
    rows = read_rows(sources.validation.path)
    assert [one["row_id"] for one in answers] == [one.row_id for one in rows]
    assert [one["reference"] for one in answers] == [one.answer for one in rows]
    assert (
        f"INFO Sample 1\nINFO Instruction: {answers[0]['instruction']}\nINFO Generated: {answers[0]['generated']}\n"
        in (done.output)
    )
    assert is_whole(best), "nothing may be written beside the adapter"
    spec = make_spec()
    adapter = place(engine.base, spec, resolve(spec.placement, engine.base.towers))
    adapter.load(best)
    output = engine.evaluator.ask([ask_validation(one) for one in rows])
    adapter.remove()
    assert [one["generated"] for one in answers] == [output[ask_validation(one).key] for one in rows]


def test_the_answers_are_those_of_the_adapter_not_of_the_base(
    run: Run, engine: Engine, best: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    broken = Path(shutil.copytree(best, tmp_path / "broken"))
    tensors = load_file(broken / "adapter_model.safetensors")
    save_file({key: value * 40 for key, value in tensors.items()}, broken / "adapter_model.safetensors")
    output = []
    for checkpoint in (best, broken):
        run("--output-jsonl", str(tmp_path / "out.jsonl"), "--max-new-tokens", "16", checkpoint=checkpoint)
        output.append([one["generated"] for one in lines_of(tmp_path / "out.jsonl")])
    assert output[0] != output[1]


def test_a_plain_peft_adapter_in_four_bits_on_the_cpu(own_base: Callable[..., Any], run: Run, tmp_path: Path) -> None:
    from peft import IA3Config, get_peft_model

    base = own_base()
    config = IA3Config(target_modules=["k_proj"], feedforward_modules=[], base_model_name_or_path=str(base.path))
    get_peft_model(base.model, config).save_pretrained(str(tmp_path / "ia3"))
    done = run("--sample-size", "1", checkpoint=tmp_path / "ia3")
    assert done.exit_code == 0, done.output
    assert f"on {base.path}, nf4-double" in done.output.replace("\n", " ")


def test_what_is_dangerous_is_flagged_and_exits_3(run: Run, tmp_path: Path) -> None:
    """The miniature knows no shell, so its answers are declared dangerous by a user's own pattern."""
    (tmp_path / "mine.yaml").write_text("- {name: says-anything, pattern: '.', why: a test}\n", encoding="utf-8")
    done = run("--patterns", str(tmp_path / "mine.yaml"), "--output-jsonl", str(tmp_path / "out.jsonl"))
    assert done.exit_code == 3, done.output
    assert "WARNING Dangerous: says-anything" in done.output
    assert any(one["dangerous"] == ["says-anything"] for one in lines_of(tmp_path / "out.jsonl"))


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ((), {"cpu": ""}, "CUDA not available. Use --allow-cpu"),
        ((), {"data": Path("nowhere.jsonl")}, "a data file must exist"),
        ((), {"checkpoint": Path("nowhere")}, "an adapter directory must hold"),
        ((), {"store": "./mlruns"}, "a tracking URI must be"),
        (("--base", "nowhere"), {}, "the base must be a directory"),
        (("--output-jsonl", "."), {}, "--output-jsonl must be a separate file"),
        (("--output-jsonl", f"{__file__}/out.jsonl"), {}, "--output-jsonl must be writable"),
        (("--output-jsonl", "/proc/x.jsonl"), {}, "--output-jsonl must be writable"),
        (("--output-jsonl", "/proc/new/x.jsonl"), {}, "--output-jsonl must be writable"),
        (("--output-jsonl", "x" * 300), {}, "--output-jsonl must be writable"),
        (("--output-jsonl", "/dev/null"), {}, "--output-jsonl must be a separate file"),
    ],
)
def test_bad_input_exits_2_before_anything_is_loaded(
    arguments: tuple[str, ...], options: dict[str, Any], expected: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = run(*arguments, **options)
    assert done.exit_code == 2
    assert expected in done.output
    assert "Sample" not in done.output


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any) -> None:
        raise AssertionError("nothing may be loaded")

    monkeypatch.setattr("trainables.model.base.load_base", load)


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [{"role": "assistant", "content": "a"}]}, "rows.jsonl:1: a row must have a user turn"),
        ({"prompt": "<image>?", "response": "a", "images": ["empty.png"]}, "empty.png must be readable"),
    ],
)
def test_a_row_without_a_prompt_exits_2_before_the_base_is_loaded(
    row: dict[str, Any], expected: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    done = run(data=tmp_path / "rows.jsonl")
    assert done.exit_code == 2, done.output
    assert expected in done.output


@pytest.mark.usefixtures("unloaded")
def test_a_picture_for_a_base_of_text_alone_exits_2_before_it_is_loaded(
    run: Run, best: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainables.evaluation import held_out as validation
    from trainables.model.families import FAMILIES

    monkeypatch.setattr(validation, "family_of", lambda _: (FAMILIES["qwen3"], {}))
    done = run("--sample-size", "0")
    assert done.exit_code == 2, done.output
    assert "takes text alone, so a row must have no pictures, but it has 1" in done.output
    assert is_whole(best)


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("damage", [lambda base: (base / "adapter_config.json").write_text("{}"),
                                    lambda base: (base / "model.safetensors").write_bytes(b"cut")])  # fmt: skip
def test_a_damaged_base_exits_2_before_it_is_loaded(
    damage: Callable[[Path], object], run: Run, make_spec: SpecMaker, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(make_spec().base.path, tmp_path / "base"))
    damage(base)
    done = run("--base", str(base))
    assert done.exit_code == 2, done.exception
    assert f"{base}" in done.output


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("adapter_config.json", "["),
        ("adapter_config.json", "[]"),
        ("adapter_config.json", '{"peft_type": "LORA", "r": "four"}'),
        ("provenance.json", "{"),
        ("provenance.json", "7"),
        ("provenance.json", '{"spec": 3, "step": 1}'),
        ("provenance.json", '{"spec": {}}'),
    ],
)
def test_a_broken_file_of_the_checkpoint_exits_2_with_file_and_hint(
    name: str, text: str, run: Run, best: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(best, tmp_path / "broken"))
    (broken / name).write_text(text, encoding="utf-8")
    done = run(checkpoint=broken)
    assert done.exit_code == 2, done.output
    assert f"error: {broken / name}: " in done.output


def test_a_disk_that_fills_up_meanwhile_is_an_error_and_no_traceback(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainables import validate

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(validate, "write_text", full)
    done = run("--sample-size", "1", "--output-jsonl", str(tmp_path / "out.jsonl"))
    assert done.exit_code == 2, done.output
    assert "out.jsonl no longer is: [Errno 28]" in done.output


def test_an_output_in_the_checkpoint_or_on_the_data_is_refused(run: Run, best: Path, sources: Sources) -> None:
    for output in (best / "results.jsonl", sources.validation.path):
        assert run("--output-jsonl", str(output)).exit_code == 2
    assert is_whole(best)


def test_a_half_adapter_is_refused(run: Run, best: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    half = Path(shutil.copytree(best, tmp_path / "half"))
    tensors = load_file(half / "adapter_model.safetensors")
    save_file(dict(list(tensors.items())[1:]), half / "adapter_model.safetensors")
    done = run(checkpoint=half)
    assert done.exit_code == 2
    assert "an adapter must be complete and finite, but missing base_model" in done.output


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "trainables.validate", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--sample-size" in done.stdout


# -------------------------------------------------------------------- MLflow
def test_the_run_lies_below_that_of_its_trial_and_is_not_taken_for_it(
    run: Run, best: Path, database: Path, tmp_path: Path
) -> None:
    from trainables.mlflow_store import connect, experiment_id

    uri = f"sqlite:///{database}"
    client, trained = connect(uri), read_origin(best)
    assert trained is not None
    experiment = experiment_id(client, uri, "stage4")
    trial = client.create_run(experiment, tags={"trial.id": trained.spec.trial_id}, run_name="trial").info.run_id
    done = run("--sample-size", "2", "--output-jsonl", str(tmp_path / "out.jsonl"), store=uri)
    assert done.exit_code == 0, done.output
    (found,) = client.search_runs([experiment], "tags.`footprint.kind` = 'validation'")
    assert found.data.tags["mlflow.parentRunId"] == trial
    assert "trial.id" not in found.data.tags
    assert found.info.status == "FINISHED"
    assert {"exact_match", "dangerous_rate", "near_empty_rate"} <= set(found.data.metrics)
    assert found.data.params["quantization"] == "none"
    assert found.data.params["data_sha256"] == sampled_rows(trained.spec.validation.path, 0, 0).sha256
    written = client.download_artifacts(found.info.run_id, "samples.jsonl", str(tmp_path))
    assert Path(written).read_text(encoding="utf-8") == (tmp_path / "out.jsonl").read_text(encoding="utf-8")


def test_a_store_that_is_down_loses_no_answer(run: Run, tmp_path: Path) -> None:
    done = run("--output-jsonl", str(tmp_path / "out.jsonl"), "--sample-size", "1", store="http://127.0.0.1:9")
    assert done.exit_code == 0, done.output
    assert "WARNING MLflow: not logged" in done.output
    assert len(lines_of(tmp_path / "out.jsonl")) == 1


@pytest.mark.slow
def test_two_validations_may_begin_on_a_database_that_is_not_there(tmp_path: Path) -> None:
    script = (
        f"from trainables.mlflow_store import connect; connect('sqlite:///{tmp_path}/mlflow.db').search_experiments()"
    )
    started = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [one.wait() for one in started] == [0, 0, 0]


# -------------------------------------------------------------------- what is decided
def test_rows_that_the_trial_used_are_called_so(best: Path, sources: Sources) -> None:
    trained, held_out = read_origin(best), sampled_rows(sources.validation.path, 0, 0)
    assert trained is not None and held_out.caution(None) is None
    for sha256, output in (
        (trained.spec.train.sha256, "trained on this file"),
        (trained.spec.validation.sha256, "chosen on this file"),
    ):
        assert output in (replace(held_out, sha256=sha256).caution(trained) or "")


# -------------------------------------------------------------------- where it comes from
def test_a_checkpoint_between_two_evals_is_known_by_its_record(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    from small_trials import opened

    spec = make_spec()
    with opened(engine, spec, tmp_path / "stage4" / "trials" / "C1", baseline) as trial:
        train_to(trial, 1)
    found = read_origin(tmp_path / "stage4" / "trials" / "C1" / "checkpoints" / "step-1")
    assert found is not None
    assert (found.spec, found.step, found.experiment) == (spec, 1, "stage4")
