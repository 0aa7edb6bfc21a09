"""Checks of mappings and lists that may have no effect: each returns its effect or raises InvalidValue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeps.importers.rules import Differs, Effect, InvalidValue

ROW_FORMATS = "the format is detected from the rows"
PLAIN_FORMATS = ("completion", "chat_template", "sharegpt")
TURN_KEYS = ({"role": "from", "content": "value"}, {"role": "role", "content": "content"})
SPEAKERS = {"user": ("user", "human"), "assistant": ("assistant", "gpt"), "system": ("system",), "tool": ("tool",)}
# tokens that end a turn; the base's own template decides which one
TURN_ENDS = (
    "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<turn|>", "</s>", "<|end|>", "<|endoftext|>", "<|end_of_text|>"
)  # fmt: skip
# plugins that change no result: faster kernels, and records
HARMLESS_PLUGINS = {
    "axolotl.integrations.liger.LigerPlugin",
    "axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin",
    "axolotl.integrations.kernels.KernelsPlugin",
    "axolotl.integrations.swanlab.SwanLabPlugin",
}


def prompt_format(value: Any, _: Mapping[str, Any]) -> Effect:
    """Return the effect of a prompt format on rows that the command line gives."""
    if value in PLAIN_FORMATS:
        return ROW_FORMATS
    name = value if isinstance(value, str) else "of its own"
    return Differs(f"axolotl renders rows in the prompt format {name}; here the base's own chat template renders them")


def early_stop(value: Any, _: Mapping[str, Any]) -> Effect:
    """Return the effect of a number of evals without improvement after which the tool stops."""
    if value in (0, False):
        return "off"
    return Differs("the trial is not stopped early: it runs its whole schedule, and its best adapter is kept")


def turn_keys(value: Any, _: Mapping[str, Any]) -> str:
    """Check the keys of a turn for role and text."""
    if value not in TURN_KEYS:
        raise InvalidValue(
            "{role: from, content: value} or {role: role, content: content}", "rename the keys in the rows"
        )
    return ROW_FORMATS


def speakers(value: Any, _: Mapping[str, Any]) -> str:
    """Check the names of roles."""
    known = "; ".join(f"{role}: {', '.join(names)}" for role, names in SPEAKERS.items())
    if not isinstance(value, Mapping) or not all(
        isinstance(names, list) and role in SPEAKERS and set(map(str, names)) <= set(SPEAKERS[role])
        for role, names in value.items()
    ):
        raise InvalidValue(f"names of supported roles ({known})", "rename the speakers in the rows")
    return ROW_FORMATS


def trained_roles(value: Any, _: Mapping[str, Any]) -> str:
    """Check which roles are supervised."""
    if not isinstance(value, list) or not value or not all(role in SPEAKERS["assistant"] for role in value):
        raise InvalidValue("[assistant] (all assistant turns are supervised, and no other)", "remove the key")
    return "all assistant turns are supervised"


def turn_ends(value: Any, _: Mapping[str, Any]) -> str:
    """Check the tokens that end a turn."""
    if not isinstance(value, list) or not all(token in TURN_ENDS for token in value):
        raise InvalidValue(f"tokens that end a turn in a base's own template: {', '.join(TURN_ENDS)}",
                     "remove the key: the base's own template ends each turn")  # fmt: skip
    return "the base's own template ends each turn"


def special_tokens(value: Any, _: Mapping[str, Any]) -> str:
    """Check the form of special tokens; `check_special_tokens` compares them with the base's."""
    if not isinstance(value, Mapping) or not all(given is None or isinstance(given, str) for given in value.values()):
        raise InvalidValue("a mapping of token names to tokens", 'write for example pad_token: "<pad>"')
    return "padding is masked, whatever the token; the others are the base's own"


def plugins(value: Any, _: Mapping[str, Any]) -> str:
    """Check plugins of axolotl: kernels and records have no effect on results; other plugins are refused."""
    if not isinstance(value, list) or not all(name in HARMLESS_PLUGINS for name in value):
        raise InvalidValue("left out (code of plugins is not run)", "remove it if the result does not depend on it")
    return "a faster kernel or a record, with the same result; the plugin is not run"


def split_ratio(value: Any, whole: Mapping[str, Any]) -> str:
    """Check the share of training rows that is held out if no validation rows are named."""
    parts = [whole, *(part for part in whole.values() if isinstance(part, Mapping))]
    if value in (0, False):
        return "off"
    if any(part.get("val_dataset") for part in parts):
        return "`val_dataset` holds the validation rows, so no training rows are held out"
    raise InvalidValue(
        "off (a separate validation set is needed, not a part of the training rows)",
        "write the held-out rows to a file and name it in val_dataset; then split_dataset_ratio: 0",
    )
