"""What a trial takes: one frozen, hashable description of everything that decides its result."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from trainables.errors import UserError, nearest
from trainables.schedule import SCHEDULES, rows_at

Quantization = Literal["none", "int8", "fp4", "nf4", "nf4-double"]
ComputeDtype = Literal["auto", "float32", "bfloat16", "float16"]

QUANTIZATIONS: tuple[Quantization, ...] = ("none", "int8", "fp4", "nf4", "nf4-double")

FORMAT: Literal[1, 2] = 1  # of the specs that are written now; a spec on disk without one has format 1

BASELINE_IDENTITY = (
    "base", "train", "validation", "ood", "earlier", "placement", "quantization", "compute_dtype", "max_tokens",
)  # fmt: skip

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(ge=1)]


class Frozen(BaseModel):
    """A value: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(Frozen):
    """A file or directory a trial reads: where it lies, and what it held when the study was planned."""

    path: Path
    sha256: str


class Placement(Frozen):
    """How many of the last layers of each tower carry LoRA; (0, 0) is the baseline, which only evaluates."""

    language: Annotated[int, Field(ge=0)] = 0
    vision: Annotated[int, Field(ge=0)] = 0

    @property
    def is_baseline(self) -> bool:
        """True when no tower carries an adapter."""
        return self.language == 0 and self.vision == 0

    def __str__(self) -> str:
        return f"L{self.language}-V{self.vision}"


class TrialSpec(Frozen):
    """Everything that decides the result of one trial; `trial_id` names it, wherever and whenever it runs.

    Rates are per optimizer step; `warmup_ratio`, `batch_warmup_ratio` (while the rows of a step grow) and
    `min_rate_ratio` are fractions (of the steps, of the steps, of the peak rate). `target_modules` are the linears
    adapted in a placed layer by their own name (`q_proj`); empty means all. `packed_tokens` above 0 packs the rows of
    a batch, of text alone, into sequences of at most so many tokens; at 0 they are padded. `continuation` says whether
    `init_from` holds this very placement or a part of it; `earlier` are the validation rows of a curriculum's earlier
    stages.
    Source: brief 001 for the defaults of a real base; the miniature's study declares its own.
    """

    format: Literal[1, 2] = FORMAT
    name: str
    base: Source
    train: Source
    validation: Source
    ood: Source
    earlier: tuple[Source, ...] = ()
    placement: Placement = Placement()
    target_modules: tuple[str, ...] = ()
    rank: PositiveInt = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    rslora: bool = False
    quantization: Quantization = "nf4-double"
    compute_dtype: ComputeDtype = "auto"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    vision_learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    schedule: str = "cosine"
    warmup_ratio: Fraction = 0.2
    min_rate_ratio: Fraction = 0.1
    max_gradient_norm: Annotated[float, Field(gt=0)] = 1.0
    steps: PositiveInt = 120
    batch_rows: PositiveInt = 16
    accumulation_steps: PositiveInt = 1
    batch_warmup_ratio: Fraction = 0.0
    eval_every_steps: PositiveInt = 30
    max_tokens: PositiveInt = 2048
    packed_tokens: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0)] = 0
    data_seed: Annotated[int, Field(ge=0)] = 0
    init_from: Source | None = None
    continuation: Literal["same", "extended"] = "same"
    optimizer: Literal["fresh", "resumed"] = "fresh"

    @model_validator(mode="after")
    def _resumed_needs_parent(self) -> Self:
        if self.optimizer == "resumed" and self.init_from is None:
            raise ValueError("optimizer `resumed` needs `init_from`: there is no optimizer state to resume")
        if self.optimizer == "resumed" and self.continuation == "extended":
            raise ValueError("optimizer `resumed` needs continuation `same`: new modules have no optimizer state")
        return self

    @model_validator(mode="after")
    def _every_row_fits_a_sequence(self) -> Self:
        if 0 < self.packed_tokens < self.max_tokens:
            raise ValueError(
                f"packed_tokens must be 0 or at least max_tokens = {self.max_tokens}, so that every row fits, "
                f"but got {self.packed_tokens}"
            )
        return self

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, name: str) -> str:
        if name not in SCHEDULES:
            raise ValueError(f"must be one of {', '.join(SCHEDULES)}")
        return name

    @property
    def trial_id(self) -> str:
        """Twelve hex digits that depend on every value but the display name and where the files lie."""
        return hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest()[:12]

    @property
    def effective_rows(self) -> int:
        """Rows per optimizer step, once they have grown to their full number."""
        return self.batch_rows * self.accumulation_steps

    def rows_at(self, step: int) -> int:
        """Return the rows of optimizer step `step`, counted from 0."""
        return rows_at(step, self.effective_rows, math.ceil(self.batch_warmup_ratio * self.steps))

    def rows_before(self, step: int) -> int:
        """Return how many rows the steps before `step` read."""
        return sum(self.rows_at(earlier) for earlier in range(step))

    def baseline(self) -> TrialSpec:
        """Return the trial this one is held against: the same base, data and quantization, no adapter."""
        return self.model_copy(
            update={
                "name": f"A0-{self.quantization}",
                "placement": Placement(),
                "init_from": None,
                "continuation": "same",
                "optimizer": "fresh",
            }
        )

    def identity(self) -> dict[str, Any]:
        """Return the values that decide the result: sources by their content, no name, no path.

        The baseline trains nothing, so the settings of training are no part of its identity: one baseline serves
        every arm on the same base, data and quantization.
        """
        values = self.model_dump(mode="json", exclude={"name"})
        for key, value in values.items():
            if isinstance(value, dict) and "sha256" in value:
                values[key] = value["sha256"]
        values["earlier"] = [source.sha256 for source in self.earlier]
        if self.format == 1:
            del values["format"]
        if not self.packed_tokens:
            del values["packed_tokens"]  # padding rows is no setting, so trials from before there was one keep their id
        if self.placement.is_baseline:
            values = {key: values[key] for key in ("format", *BASELINE_IDENTITY) if key in values}
        return values


def canonical_json(values: Any) -> str:
    """Serialize `values` the same way everywhere: sorted keys, no spaces, no NaN."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def parse_spec(values: Mapping[str, Any], where: str = "spec") -> TrialSpec:
    """Validate `values` into a TrialSpec.

    Raises:
        UserError: naming every key that is unknown (with the nearest known one) or out of range, and `where`.
    """
    try:
        return TrialSpec.model_validate(values)
    except ValidationError as error:
        raise UserError(*_explain(error, where)) from None


def read_spec(values: Mapping[str, Any], where: str = "spec") -> TrialSpec:
    """Validate what a file holds into a TrialSpec; a file without a format has format 1.

    Raises:
        UserError: as `parse_spec`.
    """
    # a file may hold anything: what is no mapping is refused by parse_spec
    return parse_spec({"format": 1, **values} if isinstance(values, Mapping) else values, where)


def _explain(error: ValidationError, where: str) -> tuple[str, str | None]:
    lines, hints = [], []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "spec"
        if problem["type"] == "extra_forbidden":
            known = Placement.model_fields if key.startswith("placement.") else TrialSpec.model_fields
            lines.append(f"{where}: `{key}` is not a setting of a trial")
            hints.append(nearest(key.rsplit(".", 1)[-1], known))
        else:
            must = problem["msg"].removeprefix("Value error, ").lower()
            lines.append(f"{where}: `{key}`: {must}, but got {problem['input']!r}")
    return "\n".join(lines), "; ".join(hints) or None


def engine_key(spec: TrialSpec) -> tuple[str, ...]:
    """Return what two trials must share to be trained on one engine: base, quantization, dtype and data."""
    return (
        spec.base.sha256,
        spec.quantization,
        spec.compute_dtype,
        spec.train.sha256,
        spec.validation.sha256,
        spec.ood.sha256,
        *(source.sha256 for source in spec.earlier),
    )


def cohort_key(spec: TrialSpec) -> tuple[str | float, ...]:
    """Return what two trials must share to be trained together: one engine, data order, batch shape, evals, length."""
    return (
        *engine_key(spec),
        spec.data_seed,
        spec.batch_rows,
        spec.accumulation_steps,
        spec.batch_warmup_ratio,
        spec.max_tokens,
        spec.packed_tokens,
        spec.eval_every_steps,
        spec.steps,
    )


def neighbourhood(spec: TrialSpec) -> tuple[int | str, ...]:
    """Return what trials that train together are ordered by, so that those who share most of a pass are neighbours."""
    return (spec.placement.vision, spec.placement.language, spec.trial_id)
