"""Checks the ranges of imported settings; errors name the file, line and key that a setting comes from."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from sweeps.importers.parsing import ParsedConfig, combined_error
from sweeps.importers.settings import ImportedSettings
from trainables.spec import TrialSpec

# settings that come from fields of other names
FIELDS_OF_SETTING = {
    "vision_learning_rate": ("rate_group", "vision_learning_rate", "learning_rate"),
    "quantization": ("bits", "four_bit", "eight_bit"),
    "compute_dtype": ("dtype", "bf16", "fp16", "pure_bf16"),
    "warmup_ratio": ("warmup_steps", "warmup_ratio"),
    "min_rate_ratio": ("min_rate", "min_rate_ratio"),
    "steps": ("max_steps", "epochs"),
    "accumulation_steps": ("accumulation_steps", "batch_rows"),
    "eval_every_steps": ("eval_steps", "evals_per_epoch", "eval_strategy"),
    "packed_tokens": ("packing",),
    "data_seed": ("data_seed", "seed"),
    "target_modules": ("targets", "expression", "all_linear"),
}
NO_SOURCE: dict[str, Any] = {"path": "none", "sha256": ""}  # placeholder for the sources, which are checked elsewhere


def check_ranges(parsed: ParsedConfig, imported: ImportedSettings) -> None:
    """Refuse settings outside the ranges of `TrialSpec`.

    Raises:
        UserError: names file, line and key of each.
    """
    sources = dict.fromkeys(("base", "train", "validation", "ood"), NO_SOURCE)
    try:
        TrialSpec.model_validate({"name": "imported", **sources, **imported.as_values()})
    except ValidationError as error:
        raise combined_error([_range_problem(parsed, problem) for problem in error.errors()]) from None


def _range_problem(parsed: ParsedConfig, problem: Any) -> tuple[str, str | None]:
    setting = str(problem["loc"][0]) if problem["loc"] else "max_tokens"
    names = FIELDS_OF_SETTING.get(setting, (setting,))
    field = next((name for name in names if name in parsed.origins), names[0])
    must = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    got = "" if problem["loc"] == () else f", but {setting} is {problem['input']!r}"
    problem_error = parsed.error(field, f"{must}{got}", "write a value within that range, or remove the key")
    return problem_error.message, problem_error.hint
