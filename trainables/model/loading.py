"""Loads the weights of a base with transformers, and checks what was loaded before anything uses it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from trainables.errors import UserError
from trainables.model.families import TOWERS, LinearShape
from trainables.model.quantization import INT8_OUTLIER_THRESHOLD, QUANTIZATION_TABLE, quantization_config
from trainables.model.stored_base import HEAD, StoredBase, embedding_of
from trainables.model.stored_quantization import UNQUANTIZED
from trainables.model.weight_files import REPAIR_HINT, listed
from trainables.model.weight_report import WeightReport, check_report
from trainables.progress import doing
from trainables.spec import Quantization

NOTHING_AMISS = WeightReport(frozenset(), frozenset(), {}, ())


def load_model(base: StoredBase, quantization: Quantization, dtype: torch.dtype, device: torch.device) -> Any:
    """Load the model of a base that `read_base` has checked, and check the result.

    Raises:
        UserError: transformers reports a weight that is missing, not expected or of another shape; or what it loaded is
            not what was asked for.
    """
    import transformers

    model_class = getattr(transformers, base.family.model_class)
    config, stored_so = read_configuration(base.path), base.quantization != UNQUANTIZED
    with _messages_of_the_loader() as messages, _counted_weights(base.path):
        try:
            model, found = model_class.from_pretrained(
                base.path,
                config=config,
                dtype=dtype,
                quantization_config=None if stored_so else quantization_config(quantization, dtype),
                device_map={"": device},
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # so that the report names every one of them
                output_loading_info=True,
            )
        except RuntimeError as error:
            if any("OutOfMemoryError" in message for message in messages):  # caught while a weight was quantized
                raise torch.OutOfMemoryError(f"out of memory while {base.path} was quantized") from error
            for message in messages:
                error.add_note(message)
            raise
    _compute_in(model, dtype)
    check_report(base.path, base.family, report_of(found))
    check_loaded(base, model, quantization, dtype)
    return model


def rebuilt(
    base: StoredBase, quantization: Quantization, dtype: torch.dtype, tensors: Mapping[str, torch.Tensor]
) -> Any:
    """Return the model of a base with these tensors, by their names in the model, as its weights; none is copied.

    Tensors of a quantized model are those of its `state_dict`. None if transformers does not take exactly these.
    """
    import transformers

    config = read_configuration(base.path)
    asked = quantization_config(quantization, dtype)
    if asked is None:
        vars(config).pop("quantization_config", None)
    else:
        config.quantization_config = asked.to_dict()  # as if the base were stored so
    try:
        with _messages_of_the_loader():
            model, found = getattr(transformers, base.family.model_class).from_pretrained(
                None, config=config, dtype=dtype, device_map={"": "cpu"}, state_dict=dict(tensors),
                ignore_mismatched_sizes=True, output_loading_info=True,
            )  # fmt: skip
    except (RuntimeError, ValueError, KeyError):
        return None
    _compute_in(model, dtype)
    return model if report_of(found) == NOTHING_AMISS else None


@contextmanager
def _counted_weights(base: Path) -> Iterator[None]:
    """Show which part of the weights transformers has loaded, in place of its own bar."""
    from transformers.utils.logging import set_tqdm_hook

    def counted(weights: Collection[Any]) -> Iterator[Any]:
        with doing(f"loading {base.name}", len(weights), "weights") as advance:
            for one in weights:
                yield one
                advance(1)

    before = set_tqdm_hook(lambda bar, given, named: counted(*given) if given else bar(**named))
    try:
        yield
    finally:
        set_tqdm_hook(before)


def read_configuration(base: Path) -> Any:
    """Read config.json as transformers does.

    Raises:
        UserError: transformers refuses the configuration.
    """
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    try:
        return transformers.AutoConfig.from_pretrained(base, trust_remote_code=False, local_files_only=True)
    except (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        raise UserError(
            f"{base / 'config.json'}: transformers must be able to read it, but reports {reason}", REPAIR_HINT
        ) from None


def _compute_in(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Let 4-bit linears compute in `dtype`; those of a base that is stored in 4 bits bring a dtype of their own.

    bitsandbytes dequantizes to the dtype of the input in the forward, and to that of the state in the backward.
    """
    from bitsandbytes.nn.modules import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype, module.compute_type_is_set = dtype, True
            state = getattr(module.weight, "quant_state", None)  # missing states are reported by `check_loaded`
            if state is not None:
                state.dtype = dtype


def report_of(found: Mapping[str, Any]) -> WeightReport:
    """Return the loading report of transformers as a value."""
    return WeightReport(
        missing=frozenset(found["missing_keys"]),
        unexpected=frozenset(found["unexpected_keys"]),
        reshaped={name: (tuple(stored), tuple(built)) for name, stored, built in found["mismatched_keys"]},
        errors=tuple(found["error_msgs"]),
    )


def check_loaded(base: StoredBase, model: Any, quantization: Quantization, dtype: torch.dtype) -> None:
    """Check that a loaded model is the base in this quantization and nothing else.

    Raises:
        UserError: an adapter is attached, head and embedding are not tied as config.json says, a linear of the towers
            is not of the asked kind, or a weight has no finite values.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        raise UserError(f"a base must be a model without an adapter, but transformers put one on {base.path}",
                        "move the adapter's files to a directory of their own")  # fmt: skip
    head, embedding = model.get_parameter(HEAD), model.get_parameter(embedding_of(base.family))
    if (head is embedding) != base.family.is_tied(base.config):
        raise UserError(
            f"head and embedding must be tied as config.json says (`tie_word_embeddings`), but in {base.path} they are "
            f"{'one weight' if head is embedding else 'two different weights'}",
            REPAIR_HINT,
        )
    wrong = [linear for linear in _linears(base) if not is_quantized_as(model, linear, quantization, dtype)]
    if wrong or type(model.get_submodule("lm_head")) is not torch.nn.Linear:
        names = listed(one.name for one in wrong) if wrong else "`lm_head`, which is never quantized,"
        raise UserError(
            f"every linear of the towers must be loaded in {quantization}, but {names} of {base.path} "
            f"{'are' if len(wrong) > 1 else 'is'} not",
            "the base may name modules that stay unquantized (`llm_int8_skip_modules`); use an unquantized base",
        )
    broken = not_finite(model)
    if broken:
        raise UserError(f"the weights of a base must be finite, but in {base.path} those of {listed(broken)} are not",
                        REPAIR_HINT)  # fmt: skip


def is_quantized_as(model: Any, linear: LinearShape, quantization: Quantization, dtype: torch.dtype) -> bool:
    """True when a linear is of the class that a quantization asks for, and holds its weight in this quantization."""
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    module, facts = model.get_submodule(linear.name), QUANTIZATION_TABLE[quantization]
    if facts.bits == 4:
        state = getattr(module.weight, "quant_state", None) if type(module) is Linear4bit else None
        return (
            state is not None
            and (state.quant_type, state.nested) == (facts.kind, facts.double_quantization)
            and module.compute_dtype is dtype
        )
    if facts.bits == 8:
        return (
            type(module) is Linear8bitLt
            and module.weight.dtype is torch.int8
            and module.state.threshold == INT8_OUTLIER_THRESHOLD
            and not module.state.has_fp16_weights
        )
    return type(module) is torch.nn.Linear and module.weight.dtype is dtype


def not_finite(model: torch.nn.Module) -> list[str]:
    """Return the names of weights with values that are not finite, or without any values."""
    named = dict(model.named_parameters())
    empty = [name for name, tensor in named.items() if tensor.is_meta]
    values = ((name, _values(tensor)) for name, tensor in named.items() if name not in empty)
    floats = {name: tensor for name, tensor in values if tensor is not None}
    # a sum is finite only if all of its parts are, and reads the weights once
    sums = {name: tensor.sum(dtype=torch.float32) for name, tensor in floats.items()}
    if not sums:
        return empty
    finite = torch.stack(list(sums.values())).isfinite().tolist()
    doubtful = [name for name, is_finite in zip(sums, finite, strict=True) if not is_finite]
    return empty + [name for name in doubtful if not bool(torch.isfinite(floats[name]).all())]


def _values(parameter: torch.Tensor) -> torch.Tensor | None:
    """Return the floats of a parameter: of a quantized one its scales, which hold what was not finite."""
    if parameter.is_floating_point():
        return parameter.detach()
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        return state.state2.absmax.sum() + state.offset if state.nested else state.absmax
    return getattr(parameter, "SCB", None)


def _linears(base: StoredBase) -> Iterator[LinearShape]:
    towers = base.family.towers(base.config)
    return (linear for tower in TOWERS for block in towers[tower] for linear in block)


@contextmanager
def _messages_of_the_loader() -> Iterator[list[str]]:
    """Collect the warnings of transformers' loader, its report among them, instead of printing them.

    Whatever another library of this process has set for logging is put aside meanwhile.
    """
    from transformers.modeling_utils import logger  # the object itself: its name may lead to another one

    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    level, propagates, disabled, globally = (
        logger.level,
        logger.propagate,
        logger.disabled,
        logging.root.manager.disable,
    )
    logger.addHandler(handler)
    logging.disable(logging.NOTSET)
    logger.setLevel(logging.WARNING)
    logger.propagate = logger.disabled = False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate, logger.disabled = propagates, disabled
        logging.disable(globally)
