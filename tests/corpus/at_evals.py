"""Failures of evals, of saving, and of loading."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.corpus.bench import EVAL_STEP, Injection, Seen
from tests.corpus.tools import fit, put, replace
from trainables.checkpoints.adapter import adapter_source
from trainables.io.files import read_json, write_json

if TYPE_CHECKING:
    from tests.corpus.bench import Bench


def _cached_losses(trial: Any, stack: ExitStack) -> None:
    evaluator = trial.engine.evaluator
    original, kept = evaluator._losses, {}
    replace(stack, evaluator, "_losses", lambda rows, *given: kept.setdefault(id(rows), original(rows, *given)))


def _updates_lost(trial: Any, stack: ExitStack) -> None:
    adamw = trial.optimizer.adamw
    original = adamw.step
    replace(stack, adamw, "step", lambda: original() if _in_self_test(trial) else None)


def _in_self_test(trial: Any) -> bool:
    # the self-test leaves its numbers behind when it is done
    return not (trial.record.directory / "battery.json").exists()


def _absent_at_eval(trial: Any, stack: ExitStack) -> None:
    evaluator = trial.engine.evaluator
    original = evaluator.measure

    def measure(*given: Any) -> Any:
        with trial.adapter.peft_model.disable_adapter():
            return original(*given)

    replace(stack, evaluator, "measure", measure)


def _saving(stack: ExitStack, change: Any) -> None:
    from trainables.model.lora import Adapter

    original = Adapter.save

    def save(adapter: Any, directory: Path) -> None:
        original(adapter, directory)
        change(directory)

    replace(stack, Adapter, "save", save)


def _rewritten(change: Any) -> Any:
    def rewrite(directory: Path) -> None:
        from safetensors.torch import load_file, save_file

        path = directory / "adapter_model.safetensors"
        save_file({name: change(name, tensor).contiguous() for name, tensor in load_file(path).items()}, path)

    return rewrite


def _empty_tensors(_: Bench, stack: ExitStack) -> None:
    _saving(stack, _rewritten(lambda name, tensor: tensor[:0]))


def _other_scale(_: Bench, stack: ExitStack) -> None:
    def change(directory: Path) -> None:
        path = directory / "adapter_config.json"
        write_json(path, {**read_json(path), "lora_alpha": 2 * read_json(path)["lora_alpha"]})

    _saving(stack, change)


def _zero_b(_: Bench, stack: ExitStack) -> None:
    _saving(stack, _rewritten(lambda name, tensor: tensor * 0 if "lora_B" in name else tensor))


def _lookup(trial: Any, stack: ExitStack) -> None:
    evaluator = trial.engine.evaluator
    original = evaluator._answers
    table = {f"validation/{row.row_id}": row.answer for row in evaluator.data.validation}

    def answers(questions: Any, *given: Any) -> dict[str, str]:
        return original(questions, *given) | {q.key: table[q.key] for q in questions if q.key in table}

    replace(stack, evaluator, "_answers", answers)


def _lookup_without_model(trial: Any, stack: ExitStack) -> None:
    evaluator = trial.engine.evaluator
    table = {f"validation/{row.row_id}": row.answer for row in evaluator.data.validation}

    def answers(self: Any, questions: Any, *_: Any) -> dict[str, str]:
        return {question.key: table.get(question.key, "") for question in questions}

    replace(stack, type(evaluator), "_answers", answers)


def _generate_from_a_table(trial: Any, stack: ExitStack) -> None:
    model, tokenizer = trial.engine.base.model, trial.engine.encoder.tokenizer
    original = model.generate
    answer = tokenizer(trial.engine.evaluator.data.validation[0].answer)["input_ids"]

    def generate(**keywords: Any) -> Any:
        import torch

        rows = keywords["input_ids"]
        steps = original(**keywords).shape[1] - rows.shape[1]  # the model is run, its words are thrown away
        words = (answer + [tokenizer.pad_token_id] * steps)[:steps]
        return torch.cat([rows, torch.tensor([words] * len(rows))], dim=1)

    replace(stack, model, "generate", generate)


def _fitted_base_takes_over(bench: Bench, stack: ExitStack) -> None:
    evaluator, fitted = bench.engine.evaluator, fit(bench.engine)
    stack.callback(put, [(parameter, parameter.detach().clone()) for parameter, _ in fitted])
    original, evals = evaluator.measure, []

    def measure(*given: Any) -> Any:
        if not evals:
            evals.append(1)
            put(fitted)
        return original(*given)

    replace(stack, evaluator, "measure", measure)


def _another_model_is_asked(bench: Bench, stack: ExitStack) -> None:
    from copy import deepcopy

    base, fitted = bench.engine.base, fit(bench.engine)
    own = [(parameter, parameter.detach().clone()) for parameter, _ in fitted]
    put(fitted)
    other = changed(base, model=deepcopy(base.model))
    put(own)
    replace(stack, bench.engine.evaluator, "base", other)


def continuing(bench: Bench, optimizer: str = "fresh") -> dict[str, Any]:
    """Return the changes that make a trial continue a parent; the parent is trained at the first call."""
    parent = bench.directory / "parent"
    if not parent.exists():
        bench.run({"name": "parent"})
        (bench.directory / "trials" / f"{bench.runs}").rename(parent)
    return {"init_from": adapter_source(parent / "checkpoints" / f"step-{2 * EVAL_STEP}", optimizer)}


def _loading(stack: ExitStack, load: Any) -> None:
    from trainables.model.lora import Adapter

    replace(stack, Adapter, "load", load)


def _nothing_loaded(_: Bench, stack: ExitStack) -> None:
    _loading(stack, lambda adapter, directory, base_tensors: None)


def _garbage_loaded(_: Bench, stack: ExitStack) -> None:
    from trainables.model.lora import Adapter

    original = Adapter.load

    def load(adapter: Any, directory: Path, base_tensors: str) -> None:
        original(adapter, directory, base_tensors)
        for name, parameter in adapter.trained():
            parameter.data.mul_(-30.0 if "lora_B" in name else 1.0)

    _loading(stack, load)


def damaged_checkpoint(bench: Bench) -> Seen | None:
    """Truncate the newest checkpoint of a stopped trial; the resumed trial must not use it (F31)."""
    from trainables.training.trial import open_trial

    from .bench import ANYTHING_GOES

    spec, record = bench.spec(name="damaged"), bench.next_record()
    record.create(spec)

    def opened() -> Any:
        return open_trial(bench.engine, spec, record, bench.baseline, (), ANYTHING_GOES)

    trial: Any = opened()
    trial.advance(lambda: False)
    trial.advance(lambda: trial.progress.step > EVAL_STEP)
    trial.remove()
    newest = record.checkpoint(EVAL_STEP + 1) / "adapter_model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-8])
    trial = opened()
    step = trial.progress.step
    trial.remove()
    return Seen("damaged_checkpoint", "invalid", 0, f"resumed at step {step}") if step == EVAL_STEP else None


INJECTIONS = (
    Injection("F20", "eval losses from a cache", ("broken_eval",), 2 * EVAL_STEP, after=_cached_losses),
    Injection("F20", "updates are lost", ("no_learning",), EVAL_STEP, after=_updates_lost),
    Injection("F21", "adapter silently absent at eval", ("broken_eval",), EVAL_STEP, after=_absent_at_eval),
    Injection("F22", "saved tensors are empty", ("reload",), 0, before=_empty_tensors),
    Injection("F23", "saved adapter computes something else", ("reload",), 0, before=_other_scale),
    Injection("F24", "saved lora_B is all 0", ("reload",), 0, before=_zero_b),
    Injection("F32", "answers replaced by the references", ("answers_not_generated",), EVAL_STEP, after=_lookup),
    Injection("F32", "answers from a table instead of the model", ("answers_not_generated",), EVAL_STEP,
              after=_lookup_without_model),
    Injection("F32", "generate returns a table's tokens", ("answers_not_generated",), EVAL_STEP,
              after=_generate_from_a_table),
    Injection("F32", "the base is replaced by a fitted one at the first eval", ("null_model",), 2 * EVAL_STEP,
              before=_fitted_base_takes_over),
    Injection("F32", "the eval uses another, fitted model", ("null_model",), EVAL_STEP,
              before=_another_model_is_asked, changes={"steps": EVAL_STEP}),
    Injection("F34", "a rate that teaches nothing", ("minimum",), 2 * EVAL_STEP, level="label",
              changes={"learning_rate": 1e-6, "vision_learning_rate": 1e-6}),
)  # fmt: skip

# run with the changes of `continuing`
CONTINUED = (
    Injection("F33", "the parent's adapter is not loaded", ("adapter_effect", "handover"), 0, before=_nothing_loaded),
    Injection("F33", "the parent's adapter is loaded with wrong weights", ("handover",), 0, before=_garbage_loaded),
)
