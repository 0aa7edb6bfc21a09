"""The list of keys and values of `adapter_config.json` at which an adapter is plain LoRA, as PEFT computes it.

Plain LoRA adds `scaling * B(A(x))` to the output of a linear layer of the unchanged base. `verify`, `validate` and
`--init-from` all ask this list. A key that is not on it must be empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trainables.errors import named, quoted

LORA = "LORA"
Config = Mapping[str, Any]
RESTORE_HINT = (
    "save it as plain LoRA: `model.save_pretrained(DIR, path_initial_model_for_weight_conversion=INITIAL)`, where "
    "INITIAL holds the adapter as it was before training; or merge it, and train a new adapter on the merged model"
)
MERGE_HINT = "merge it into its base with PEFT, `merge_and_unload()`, and train a new adapter on the merged model"
UPGRADE_HINT = "find out what the key means; if it changes nothing, delete it from the file"


@dataclass(frozen=True)
class NotPlain:
    """A key whose value makes an adapter something else than plain LoRA.

    `opens` says whether PEFT computes the adapter's function from the saved files and the base alone. Such an adapter
    can be verified and validated, for which PEFT opens it, but not continued.
    """

    key: str
    value: Any
    meaning: str
    opens: bool
    hint: str = MERGE_HINT

    def __str__(self) -> str:
        """Return the key with its value and what this means."""
        return f"`{named(self.key)}` is {quoted(self.value)}: {self.meaning}"


@dataclass(frozen=True)
class Rule:
    """When the value of a key is that of plain LoRA, and what the adapter is otherwise."""

    plain: Callable[[Any, Config], bool]
    meaning: str = ""
    opens: bool = True


def is_empty(value: Any) -> bool:
    """Return True for null, false, and an empty text, list or object: values that switch nothing on."""
    return value is None or value is False or value in ("", [], {})


def _empty(value: Any, _: Config) -> bool:
    return is_empty(value)


def _any(_value: Any, _: Config) -> bool:
    return True


def _one_of(*values: Any) -> Callable[[Any, Config], bool]:
    return lambda value, _: value in values


def _all_equal(key: str) -> Callable[[Any, Config], bool]:
    """Return a test that no module has another rank or alpha than the adapter."""
    return lambda value, config: not value or all(one == config.get(key) for one in dict(value).values())


# These are read elsewhere, describe the files, act in training alone, or configure an initialization that is judged by
# `init_lora_weights`. PEFT ignores `fan_in_fan_out` on linear layers, the only layers that a trial adapts.
_FREE = (
    "auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config", "exclude_modules",
    "fan_in_fan_out", "inference_mode", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha",
    "lora_dropout", "lora_ga_config", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r",
    "revision", "runtime_config", "target_modules", "use_rslora",
    "merge_weights",  # of the first versions of PEFT
    "lora_dtype", "lorap_emb_lr", "lorap_lr_ratio",  # of ms-swift
)  # fmt: skip
# Initializations that leave the base as it is, besides true, false and null. PEFT makes the same layers for all of
# them, and then loads A and B.
PLAIN_INITIALIZATIONS = ("gaussian", "eva", "orthogonal")
CHANGED_BASE = "its A and B belong to a base whose weights were changed when training began, not to the base itself"

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_FREE, Rule(_any)),
    "task_type": Rule(_one_of(None, "CAUSAL_LM", "FEATURE_EXTRACTION"), "it was trained for another task"),
    "bias": Rule(_one_of("none", None), "biases of the base were trained too"),
    "modules_to_save": Rule(_empty, "modules of the base were trained whole"),
    "rank_pattern": Rule(_all_equal("r"), "its modules have different ranks"),
    "alpha_pattern": Rule(_all_equal("lora_alpha"), "its modules have different scales"),
    "trainable_token_indices": Rule(_empty, "rows of the embedding were trained too"),
    "target_parameters": Rule(_empty, "it adapts parameters that are not those of a linear layer"),
    "lora_bias": Rule(_empty, "its B has a bias"),
    "use_dora": Rule(_empty, "it is DoRA"),
    "use_bdlora": Rule(_empty, "it is BD-LoRA"),
    "use_qalora": Rule(_empty, "it is QA-LoRA"),
    "velora_config": Rule(_empty, "it is VeLoRA"),
    "monteclora_config": Rule(_empty, "it is MonteCLoRA"),
    "layer_replication": Rule(_empty, "it repeats layers of the base"),
    "kasa_config": Rule(_empty, "it is KaSA, which truncates the weights of the base", opens=False),
    "arrow_config": Rule(_empty, "it is Arrow, which routes tokens among several adapters", opens=False),
    "alora_invocation_tokens": Rule(
        _empty, "it is aLoRA, which acts only on tokens after this sequence of tokens", opens=False
    ),
    "megatron_config": Rule(_empty, "it adapts the layers of Megatron", opens=False),
    "enable_lora": Rule(_empty, "it adapts parts of a linear layer, as PEFT no longer does", opens=False),
}  # fmt: skip


def kind_of(config: Config) -> str:
    """Return the kind of an adapter as PEFT names it: `LORA`, `IA3`, `LOHA`; empty if the file names none."""
    return str(config.get("peft_type") or "")


def not_plain(config: Config) -> tuple[NotPlain, ...]:
    """Return every key of a LoRA configuration that makes it something else than plain LoRA, in the file's order."""
    return tuple(found for key, value in config.items() if (found := _judged(key, value, config)))


def unopenable(config: Config) -> tuple[NotPlain, ...]:
    """Return the keys for which files and base do not determine what the adapter computes; none for other kinds."""
    return tuple(one for one in not_plain(config) if not one.opens) if kind_of(config) == LORA else ()


def _judged(key: str, value: Any, config: Config) -> NotPlain | None:
    if key == "init_lora_weights":
        return _initialization(value)
    rule = RULES.get(key)
    if rule is None:
        unknown = "the key is unknown, and what it changes too"
        return None if is_empty(value) else NotPlain(key, value, unknown, opens=False, hint=UPGRADE_HINT)
    return None if rule.plain(value, config) else NotPlain(key, value, rule.meaning, rule.opens)


def _initialization(value: Any) -> NotPlain | None:
    key, name = "init_lora_weights", value.lower() if isinstance(value, str) else ""
    if value is None or isinstance(value, bool) or value in PLAIN_INITIALIZATIONS or name == "gaussian":
        return None
    if name == "mica":
        return NotPlain(key, value, "it is MiCA, in which B is never trained", opens=True)
    if name.startswith(("pissa", "olora", "corda", "loftq", "lora_ga")):
        return NotPlain(key, value, CHANGED_BASE, opens=False, hint=RESTORE_HINT)
    return NotPlain(key, value, "PEFT knows no such initialization", opens=False, hint=UPGRADE_HINT)
