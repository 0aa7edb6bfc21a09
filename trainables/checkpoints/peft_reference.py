"""Builds the PEFT model of an adapter's configuration and base on torch's meta device, without weights."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.checkpoints.adapter_config import SAVE_AGAIN_HINT, read_adapter_config, read_object
from trainables.checkpoints.base_lookup import BASE_HINT, chosen_base
from trainables.errors import UserError, quoted
from trainables.model.foreign_code import check_names_no_kernel
from trainables.model.peft_files import ADAPTER_CONFIG, ADAPTER_NAME, saved_name
from trainables.model.weight_files import check_no_adapter

Shape = tuple[int, ...]
# errors that PEFT and transformers raise on values of the wrong type, which they do not check themselves
WRONG_TYPE_ERRORS = (TypeError, ValueError, LookupError, AttributeError, RuntimeError, ArithmeticError, AssertionError,
           OSError, ImportError, re.error)  # fmt: skip
REPAIR_HINT = "download or save the base again, or pass another one with --base DIR"


@dataclass(frozen=True)
class Loaded:
    """What PEFT made of an adapter when it loaded it for training.

    `missing` are tensors that PEFT did not find in the file, `unexpected` those that it did not load, by the names it
    saves them under.
    """

    adapters: tuple[str, ...]
    active: tuple[str, ...]
    trainable_parameters: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


@dataclass(frozen=True)
class Expected:
    """The model that PEFT builds from configuration and base: tensor names and shapes, and what is trainable.

    `base_shapes` are the tensors of the base itself, by the names under which PEFT would load others in their place.
    `loaded` is None if PEFT cannot load the adapter's weights.
    """

    shapes: Mapping[str, Shape]
    base_shapes: Mapping[str, Shape]
    trainable_parameters: int
    total_parameters: int
    trainable_base: tuple[str, ...]
    loaded: Loaded | None

    @property
    def names(self) -> frozenset[str]:
        """Return the names of all tensors that a file can have, as PEFT saves them today."""
        return frozenset(self.shapes) | frozenset(self.base_shapes)


def read_expected(directory: Path, base: Path | None) -> Expected:
    """Let PEFT add the adapter to its base, without the base's weights.

    Raises:
        UserError: configuration or base is invalid, or the base holds another adapter; names file and key.
    """
    from peft import get_peft_model

    config = _peft_config(directory)
    where = chosen_base(directory, base)
    check_no_adapter(where)
    bare = empty_base(where)
    own = {id(parameter) for parameter in bare.parameters()}
    try:
        model = get_peft_model(bare, config)
    except WRONG_TYPE_ERRORS as error:
        raise _cannot_adapt(error, directory / ADAPTER_CONFIG, where, str(config.peft_type.value)) from None
    trains = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return Expected(
        shapes={name: tuple(tensor.shape) for name, tensor in _own_state(model).items()},
        base_shapes={
            name: tuple(p.shape) for name, p in model.named_parameters(remove_duplicate=False) if id(p) in own
        },
        trainable_parameters=sum(p.numel() for _, p in trains),
        total_parameters=sum(p.numel() for p in model.parameters()),
        trainable_base=tuple(name for name, p in trains if id(p) in own),
        loaded=_load_to_train(directory, where, config),
    )


def _own_state(model: Any) -> Mapping[str, Any]:
    from peft import get_peft_model_state_dict

    # with "auto", PEFT asks the hub for the configuration of the base that the adapter names
    return get_peft_model_state_dict(model, save_embedding_layers=False)


def _peft_config(directory: Path) -> Any:
    from peft import LoraConfig, PeftConfig

    path = directory / ADAPTER_CONFIG
    values = read_adapter_config(directory)
    try:
        config = PeftConfig.from_pretrained(str(directory))
    except WRONG_TYPE_ERRORS as error:
        raise UserError(f"{path}: must be a configuration PEFT knows, but {_message(error)}", SAVE_AGAIN_HINT) from None
    if config.is_prompt_learning:
        raise UserError(
            f"{path}: the adapter must be part of the base's modules, but {values['peft_type']} is not",
            "LoRA and similar adapters can be checked; prompt learning cannot",
        )
    config.inference_mode = False  # load it as for training
    if isinstance(config, LoraConfig):
        config.init_lora_weights = True  # PiSSA and similar need the base's weights
    return config


def _cannot_adapt(error: Exception, path: Path, base: Path, kind: str) -> UserError:
    if isinstance(error, NotImplementedError):  # of a tensor without data
        return UserError(
            f"{path}: an adapter must be one that PEFT opens without the base's weights, but {kind} needs them",
            "open it with PEFT itself, or use an adapter of another kind, such as LORA",
        )
    if isinstance(error, ValueError) and "arget modules" in str(error):
        return UserError(
            f"{path}: `target_modules`: its target modules must exist in {base}, but {_message(error)}",
            BASE_HINT,
        )
    return UserError(
        f"{path}: PEFT must be able to open the adapter on {base}, but says: {_message(error)}", SAVE_AGAIN_HINT
    )


def _load_to_train(directory: Path, base: Path, config: Any) -> Loaded | None:
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # copies to meta tensors warn; missing keys are taken from the second load
            model = PeftModel.from_pretrained(
                empty_base(base), str(directory), is_trainable=True, config=config, torch_device="cpu"
            )
            result = model.load_adapter(str(directory), ADAPTER_NAME, is_trainable=True, torch_device="cpu")
    except (RuntimeError, KeyError):  # shapes differ; `differences` names them
        return None
    return Loaded(
        adapters=tuple(model.peft_config),
        active=tuple(model.active_adapters),
        trainable_parameters=model.get_nb_trainable_parameters()[0],
        missing=tuple(sorted(map(saved_name, result.missing_keys))),
        unexpected=tuple(sorted(map(saved_name, result.unexpected_keys))),
    )


def empty_base(base: Path) -> Any:
    """Build a base from its configuration only, with weights on the meta device.

    Raises:
        UserError: transformers cannot build a model from the configuration; names file and key.
    """
    import torch
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    transformers.logging.set_verbosity_error()
    path = base / "config.json"
    check_names_no_kernel(read_object(path, REPAIR_HINT), path)
    try:
        config = transformers.AutoConfig.from_pretrained(base, trust_remote_code=False, local_files_only=True)
    except (*WRONG_TYPE_ERRORS, StrictDataclassError) as error:
        raise _no_base(error, path) from None
    make = _model_class(config, path)
    try:
        with torch.device("meta"):
            return make(config)
    except (*WRONG_TYPE_ERRORS, StrictDataclassError) as error:
        raise _no_model(error, path) from None


def _no_model(error: Exception, path: Path) -> UserError:
    return UserError(
        f"{path}: transformers must be able to build a model from it, but reports {_message(error)}", REPAIR_HINT
    )


def _no_base(error: Exception, path: Path) -> UserError:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    values = read_object(path, REPAIR_HINT)
    if "auto_map" in values and "trust_remote_code" in str(error):
        return UserError(
            f"{path}: `auto_map` needs code that came with the base, which is never run",
            "pass --base DIR with a base whose `model_type` transformers itself knows",
        )
    if values.get("model_type") in CONFIG_MAPPING:
        return _no_model(error, path)
    return UserError(
        f"{path}: `model_type` must be one that transformers knows, but got {quoted(values.get('model_type'))}",
        REPAIR_HINT,
    )


def _model_class(config: Any, path: Path) -> Any:
    import transformers

    names = config.architectures
    if not names:
        return transformers.AutoModelForCausalLM.from_config
    name = names[0] if isinstance(names, list) else names
    found = getattr(transformers, name, None) if isinstance(name, str) else None
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise UserError(
            f"{path}: `architectures` must name a model class of transformers, but got {quoted(names)}", REPAIR_HINT
        )
    return found


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
