"""Explains tensor names of an adapter that its base does not have, and that PEFT therefore does not load."""

from __future__ import annotations

import re
from collections.abc import Iterable

from trainables.errors import named
from trainables.model.peft_files import PREFIX

# `lora_A.weight` with the name of an adapter in between, as in a state of PEFT's model that is in memory
WITH_ADAPTER_NAME = re.compile(r"\.lora_[AB]\.(?P<adapter>[^.]+)\.weight$")
LAYER = re.compile(r"[^.]+\.\d+\..+$")  # from the list of layers to the end: `layers.0.mlp.up_proj`


def explained(unknown: Iterable[str], known: Iterable[str] = ()) -> str:
    """Return why PEFT knows none of these tensor names, or an empty text; `known` are the names that it expects."""
    unknown, current = sorted(unknown), _by_layer(known)
    for key in unknown:
        if found := WITH_ADAPTER_NAME.search(key):
            return (
                f"its names hold the name of an adapter, `{named(found['adapter'])}`; save it with "
                "`model.save_pretrained(DIR)`, which leaves it out"
            )
        module = key.removeprefix(PREFIX)
        here = current.get(_layer(module), "")
        if here.removeprefix(PREFIX) == module and not key.startswith(PREFIX):
            return f"every name must begin with {PREFIX}; save it with `model.save_pretrained(DIR)`"
        if here:
            theirs, ours = _before(module), _before(here.removeprefix(PREFIX))
            return (
                "its names are those of an older transformers, or of another model: "
                f"`{named(theirs)}` must be `{ours}` for this base; rename them in adapter_model.safetensors"
            )
    return ""


def _by_layer(known: Iterable[str]) -> dict[str, str]:
    return {layer: name for name in known if (layer := _layer(name))}


def _layer(name: str) -> str:
    found = LAYER.search(name)
    return found.group() if found else ""


def _before(name: str) -> str:
    """Return what stands before the number of the layer: `model.layers` of `model.layers.0.mlp.up_proj`."""
    found = re.search(r"\.\d+\.", name)
    return name[: found.start()] if found else name
