"""Computes the trial's settings from a parsed configuration, its base and its rows; each setting has its source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.importers.eval_interval import eval_interval
from sweeps.importers.parsing import ParsedConfig
from sweeps.importers.precision import compute_dtype_of, quantization_of
from sweeps.importers.setting import Setting, plain
from sweeps.importers.targets import Towers, placed
from trainables.model.families import FAMILIES, Family
from trainables.schedule import STABLE_DECAY_SHARE, warmup_steps
from trainables.spec import Placement, TrialSpec


@dataclass(frozen=True)
class ImportedSettings:
    """Settings of the imported trial without its data sources; `where` describes the placement."""

    settings: tuple[Setting, ...]
    placement: Placement
    where: Setting

    def as_values(self) -> dict[str, Any]:
        """Return the values by the names of a trial's settings."""
        return {one.name: one.value for one in self.settings}


def settings_of(parsed: ParsedConfig, towers: Towers, config: Mapping[str, Any], train_rows: int) -> ImportedSettings:
    """Return the settings of the configured trial.

    Raises:
        UserError: keys contradict each other or need something unsupported; names file, line and key.
    """
    numbers = _numbers(parsed)
    where = placed(parsed, towers, config)
    rows = _rows(parsed)
    steps = _steps(parsed, train_rows, rows[0].value * rows[1].value)
    modules = "only these in each layer" if where.target_modules else "all linears of each layer"
    found = [
        Setting("target_modules", where.target_modules, modules, where.differs),
        *_adapter(parsed),
        *numbers,
        *_rates(parsed),
        *_schedule(parsed, steps.value),
        steps,
        *rows,
        *_packed(parsed, FAMILIES[str(config["model_type"])]),
        eval_interval(parsed, steps.value, math.ceil(train_rows / (rows[0].value * rows[1].value))),
    ]
    _check_rows(parsed, train_rows)
    return ImportedSettings(tuple(found), where.placement, Setting("placement", str(where.placement), where.note))


def _adapter(parsed: ParsedConfig) -> list[Setting]:
    rank = plain(parsed, "rank")
    alpha = plain(parsed, "alpha")
    if alpha.value is None:
        ratio = parsed.value("alpha_over_rank")
        alpha = Setting("alpha", ratio * rank.value, f"default of {parsed.tool.name}: {ratio:g} x rank")
    return [rank, alpha, plain(parsed, "dropout"), plain(parsed, "rslora")]


def _numbers(parsed: ParsedConfig) -> list[Setting]:
    tokens = plain(parsed, "max_tokens")
    if tokens.value is None:
        tokens = Setting("max_tokens", TrialSpec.model_fields["max_tokens"].default, "default of Footprint; that of "
                         "the tool is the base's maximum length")  # fmt: skip
    return [quantization_of(parsed), compute_dtype_of(parsed), tokens]


def _rates(parsed: ParsedConfig) -> list[Setting]:
    language = plain(parsed, "learning_rate")
    group = parsed.value("rate_group")
    vision = Setting("vision_learning_rate", language.value, "the same rate in both towers")
    if group:
        vision = Setting("vision_learning_rate", group["lr"], parsed.origin("rate_group"))
    elif parsed.value("vision_learning_rate"):
        vision = plain(parsed, "vision_learning_rate")
    seed = plain(parsed, "seed")
    data_seed = plain(parsed, "data_seed")
    if data_seed.value is None:
        data_seed = Setting("data_seed", seed.value, f"the seed, as in {parsed.tool.name}")
    return [
        language, vision, plain(parsed, "weight_decay"), plain(parsed, "adam_beta2"),
        plain(parsed, "max_gradient_norm"), seed, data_seed,
    ]  # fmt: skip


def _rows(parsed: ParsedConfig) -> list[Setting]:
    batch, accumulation = plain(parsed, "batch_rows"), plain(parsed, "accumulation_steps")
    if accumulation.value is None:
        full = parsed.value("fill_rows")
        accumulation = Setting("accumulation_steps", math.ceil(full / batch.value),
                               f"default of {parsed.tool.name}: until a step holds {full} rows")  # fmt: skip
    if parsed.value("packing"):
        source = f"{batch.source}; in the tool a packed sequence counts as one row, so its steps hold more rows"
        batch = Setting("batch_rows", batch.value, source)
    return [batch, accumulation]


def _packed(parsed: ParsedConfig, family: Family) -> list[Setting]:
    if not parsed.value("packing"):
        return []
    if family.sees or not family.packs_rows:
        what = "pictures are" if family.sees else "rows of linear attention are"
        return [Setting("packed_tokens", 0, f"{parsed.origin('packing')}: {what} not packed; the result is the same")]
    return [Setting("packed_tokens", parsed.value("max_tokens"), parsed.origin("packing", "max_tokens"))]


def _steps(parsed: ParsedConfig, train_rows: int, rows: int) -> Setting:
    given = parsed.value("max_steps")
    if given is not None and given > 0:
        over = "; it takes precedence over the epochs" if "epochs" in parsed.fields else ""
        return Setting("steps", given, f"{parsed.origin('max_steps')}{over}")
    epochs = parsed.value("epochs")
    if epochs <= 0:
        raise parsed.error("epochs", f"must be above 0, but got {epochs:g}", "or give max_steps")
    if parsed.tool.name == "axolotl":  # the others round up the steps of each epoch
        steps = max(1, math.ceil(epochs * train_rows / rows))
    else:
        steps = max(1, math.ceil(epochs * math.ceil(train_rows / rows)))
    return Setting("steps", steps, f"{parsed.origin('epochs')}: {epochs:g} x {train_rows:,} rows, {rows} per step")


def _schedule(parsed: ParsedConfig, steps: int) -> list[Setting]:
    name = plain(parsed, "schedule")
    warmup = _warmup(parsed, steps)
    if name.value == "constant":
        warmup = Setting("warmup_ratio", 0.0, "a constant rate has no warm-up in transformers")
    if name.value == "constant_with_warmup":
        name = Setting("schedule", "constant", name.source)
    lowest, rate = parsed.value("min_rate_ratio"), parsed.value("min_rate")
    if rate is not None:
        ratio = rate / parsed.value("learning_rate")
        floor = Setting("min_rate_ratio", ratio, f"{parsed.origin('min_rate')} as a share of the peak")
    elif lowest is not None:
        floor = plain(parsed, "min_rate_ratio")
    else:
        floor = Setting("min_rate_ratio", 0.0, f"{name.value} falls to 0 in {parsed.tool.name}")
    if name.value == "stable":
        _check_stable(parsed, steps - warmup_steps(steps, warmup.value))
    return [name, warmup, floor]


def _check_stable(parsed: ParsedConfig, after_warmup: int) -> None:
    decay, expected = parsed.value("decay_steps"), round(STABLE_DECAY_SHARE * after_warmup)
    if decay != expected:
        raise parsed.error(
            "decay_steps", f"must be {expected}, the last {STABLE_DECAY_SHARE:.0%} of the steps after warm-up, "
            f"but got {decay}", f"num_decay_steps: {expected}",
        )  # fmt: skip


def _warmup(parsed: ParsedConfig, steps: int) -> Setting:
    count = parsed.value("warmup_steps")
    source = parsed.origin("warmup_steps")
    if parsed.tool.name == "axolotl":
        count, source = _axolotl_warmup(parsed, steps)
    elif count is None or (count < 1 and "warmup_ratio" in parsed.fields):
        return plain(parsed, "warmup_ratio")
    elif 0 < count < 1:  # transformers 5 reads a fraction as a share of the steps
        return Setting("warmup_ratio", count, source)
    if count > steps:
        field = next((name for name in ("warmup_steps", "warmup_ratio") if name in parsed.fields), "warmup_steps")
        raise parsed.error(field, f"must be within the {steps} steps of the run, but got {count:g}",
                          "warm up over a part of the run, or take more steps")  # fmt: skip
    value = count / steps
    while warmup_steps(steps, value) > count:  # rounding must not add a step when steps are computed from the ratio
        value = math.nextafter(value, 0.0)
    return Setting("warmup_ratio", value, f"{source}: {count:g} of {steps} steps")


def _axolotl_warmup(parsed: ParsedConfig, steps: int) -> tuple[int, str]:
    """Return warm-up steps and their source, as `axolotl.core.builders` does: a ratio is rounded down, 1 becomes 2."""
    count, ratio, share = parsed.value("warmup_steps"), parsed.value("warmup_ratio"), parsed.value("warmup_share")
    if count is not None:
        found, source = int(count), parsed.origin("warmup_steps")
    elif ratio is not None:
        found, source = int(ratio * steps), parsed.origin("warmup_ratio")
    else:
        found, source = min(int(share * steps), 100), f"default of axolotl, {share:.0%} of the steps, 100 at most"
    return (2, f"{source}; axolotl turns 1 step into 2") if found == 1 else (found, source)


def _check_rows(parsed: ParsedConfig, train_rows: int) -> None:
    most = parsed.value("max_rows")
    if most is not None and most < train_rows:
        raise parsed.error("max_rows", f"must not cut the {train_rows:,} training rows, but it keeps {most:,}",
                          "write a smaller file")  # fmt: skip
