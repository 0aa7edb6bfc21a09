"""Failures that begin during training: losses, gradients, rates."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tests.corpus.bench import EVAL_STEP, Injection
from tests.corpus.tools import change_gradients, change_losses, cut_graph, replace
from trainables.spec import Placement

if TYPE_CHECKING:
    from tests.corpus.bench import Bench


SPIKES_AT = (24, 28)


def _nan_loss_at_three(_: Bench, stack: ExitStack) -> None:
    change_losses(stack, lambda number, loss: loss * float("nan") if number == 3 else loss)


def _nan_gradients_from_five(trial: Any, stack: ExitStack) -> None:
    change_gradients(trial, stack, lambda step, gradient: gradient * float("nan") if step >= 5 else gradient)


def _zero_losses_from_three(_: Bench, stack: ExitStack) -> None:
    change_losses(stack, lambda number, loss: loss * 0.0 if number >= 3 else loss)


def _norm_of_one(trial: Any, stack: ExitStack) -> None:
    original = trial.optimizer.step
    replace(stack, trial.optimizer, "step", lambda step: original(step) * 0.0 + 1.0)


def _twentyfold_loss(_: Bench, stack: ExitStack) -> None:
    change_losses(stack, lambda number, loss: loss * 20)


def _exhausted_schedule(trial: Any, stack: ExitStack) -> None:
    from trainables.model import optimizer as optim

    original = optim.rate_factor

    def factor(step: int, *schedule: Any) -> float:
        return 0.0 if trial.progress.step >= 3 else original(step, *schedule)

    replace(stack, optim, "rate_factor", factor)


def _nan_in_second_micro_batch(_: Bench, stack: ExitStack) -> None:
    change_losses(stack, lambda number, loss: loss * float("nan") if number == 4 else loss)


def _spiking_gradients(trial: Any, stack: ExitStack) -> None:
    change_gradients(trial, stack, lambda step, gradient: gradient * 1e5 if step in SPIKES_AT else gradient)


def _one_overflowing_batch(_: Bench, stack: ExitStack) -> None:
    change_losses(stack, lambda number, loss: loss * float("inf") if number == 5 else loss)


def _graph_cut_by_the_first_eval(trial: Any, stack: ExitStack) -> None:
    evaluator = trial.engine.evaluator
    original, evals = evaluator.measure, []

    def measure(*given: Any) -> Any:
        measured = original(*given)
        if not evals:
            evals.append(1)
            cut_graph(stack, trial.engine.base.model.model.language_model.layers[6])
        return measured

    replace(stack, evaluator, "measure", measure)


def _packed_for_inference(trial: Any, _: ExitStack) -> None:
    from bitsandbytes.nn.modules import Linear4bit

    for module in trial.engine.base.model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = True


INJECTIONS = (
    Injection("F09", "one NaN loss that a logger would filter", ("non_finite_loss",), 3, before=_nan_loss_at_three),
    Injection("F14", "gradients turn NaN", ("non_finite_gradient",), 5, after=_nan_gradients_from_five),
    Injection("F14", "loss turns to exactly 0.0", ("zero_loss",), 4, before=_zero_losses_from_three),
    Injection("F15", "gradient norm constant", ("constant_gradient",), 5, after=_norm_of_one),
    Injection("F16", "loss summed instead of averaged", ("loss_too_large",), 1, before=_twentyfold_loss),
    Injection("F17", "the schedule is exhausted after a resume", ("rate",), 4, after=_exhausted_schedule),
    Injection("F26", "NaN in the second accumulated batch only", ("non_finite_loss",), 2,
              before=_nan_in_second_micro_batch, changes={"accumulation_steps": 2}),
    Injection("F27", "isolated gradient spikes", ("gradient_spikes",), SPIKES_AT[-1], after=_spiking_gradients,
              changes={"steps": 32, "eval_every_steps": 32}, level="degraded"),
    Injection("F29", "one overflowing batch", ("non_finite_loss",), 5, before=_one_overflowing_batch),
    Injection("F36", "the first eval cuts the graph of some modules", ("zero_gradient",), EVAL_STEP + 1,
              after=_graph_cut_by_the_first_eval),
)  # fmt: skip

PACKED = Injection("F36", "bitsandbytes repacks 4-bit weights for inference (needs AVX512-BF16)",
                   ("zero_gradient", "base_changed"), 0, after=_packed_for_inference, quantization="nf4-double",
                   changes={"placement": Placement(language=2)}, own_base=True)  # fmt: skip
