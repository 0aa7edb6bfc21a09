"""Reads `--set schedule=stable,batch_warmup_ratio=0.2`: settings of a trial that have no option of their own."""

from __future__ import annotations

import json
from typing import Any

from trainables.errors import UserError, items, named, nearest, quoted
from trainables.spec import TrialSpec

# how to set the fields of a spec that --set does not accept
ELSEWHERE = {
    "format": "set by the experiment", "template_date": "set by the experiment", "arm": "--only",
    "name": "set by the arm", "base": "--base", "train": "--train", "validation": "--val", "ood": "--ood",
    "earlier": "sweeps.curriculum", "placement": "--only", "quantization": "--quant", "learning_rate": "--lr",
    "modules": "--modules", "layers": "--layers",
    "rank": "--rank", "steps": "--steps", "epochs": "--epochs", "eval_every_steps": "--eval-every", "seed": "--seeds",
    "train_slice_rows": "--train-slice-rows", "probes": "--probes",
    "replay": "--mix", "replay_ratio": "--mix", "pilot_steps": "--lr auto",
    "init_from": "--init-from", "continuation": "--init-from", "optimizer": "sweeps.curriculum --resume-optimizer",
}  # fmt: skip
SETTABLE = tuple(name for name in TrialSpec.model_fields if name not in ELSEWHERE)


def parse_settings(text: str) -> dict[str, Any]:
    """Read comma-separated `key=value` pairs; `+` separates the items of a list. `TrialSpec` validates the values.

    Raises:
        UserError: a pair is malformed, or a key is repeated, unknown, or has an option of its own.
    """
    settings: dict[str, Any] = {}
    for pair in items(text, "--set", "schedule=stable,dropout=0.1"):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not value:
            raise UserError(f"--set must be comma-separated key=value, but got `{named(pair)}`", "e.g. schedule=stable")
        if key in ELSEWHERE:
            raise UserError(f"--set: `{key}` must not be given in --set", ELSEWHERE[key])
        if key not in SETTABLE:
            raise UserError(f"--set: `{named(key)}` is not a setting of a trial", nearest(key, SETTABLE))
        if key in settings:
            raise UserError(f"--set: `{key}` must be given once, but it is repeated in {quoted(text)}")
        settings[key] = (
            items(value, "target_modules=", "q_proj+v_proj", "+") if key == "target_modules" else _value(key, value)
        )
    return settings


def _value(key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
    except (ValueError, RecursionError):  # an integer of thousands of digits, or brackets nested as deep
        raise UserError(f"--set: `{key}` must be a number or a word, but got {quoted(text)}") from None
