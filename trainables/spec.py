"""The specification of a trial: one frozen value with every setting that affects its result."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from trainables.errors import UserError, nearest, quoted
from trainables.io.checksums import canonical_json
from trainables.limits import TRAIN_SLICE_ROWS, budget_problem, checked_name, experts_problem
from trainables.placement import Placement
from trainables.schedule import SCHEDULES, rows_at, rows_before
from trainables.source import Frozen, ProbeRequest, Source

Quantization = Literal["none", "int8", "fp4", "nf4", "nf4-double"]
ComputeDtype = Literal["auto", "float32", "bfloat16", "float16"]

QUANTIZATIONS: tuple[Quantization, ...] = ("none", "int8", "fp4", "nf4", "nf4-double")

Format = Literal[1, 2, 3]

EARLIER_FORMATS = (1, 2)
RESERVE_FORMAT = 3  # from this format on, irrelevant rows beyond the core are asked by guards only
FORMAT: Format = 3  # of new experiments; a file without a format has format 1
EARLIER_DEFAULTS: Mapping[str, Any] = {"eval_every_steps": 30}  # of formats 1 and 2
BASELINE_ARM = "A0"
RESTART = "-restart"  # suffix of the arm and the name of a trial that starts from `--restart-from`

ADAM_BETA2 = 0.999  # torch's default
NO_REPLAY_NO_PILOT: Mapping[str, Any] = {"replay": None, "replay_ratio": 0.0, "pilot_steps": 0}
BASELINE_IDENTITY = (
    "base", "train", "validation", "ood", "earlier", "placement", "quantization", "compute_dtype", "max_tokens",
    "template_date", "train_slice_rows", "probes",
)  # fmt: skip

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(ge=1, le=10**9)]
Name = Annotated[str, AfterValidator(checked_name)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what torch takes


class TrialSpec(Frozen):
    """All settings that affect the result of one trial; `trial_id` is a hash of them.

    `name` is for display. `arm` is the arm of the study that the trial belongs to; it defaults to `name`. Neither
    affects the result. Rates are per optimizer step. `warmup_ratio` and `batch_warmup_ratio` (how long the number of
    rows per step grows) are fractions of the steps. `min_rate_ratio` is a fraction of the peak rate. `target_modules`
    are the names of the adapted linears of a layer (`q_proj`); empty means those of the placement's kind, and `experts`
    alone the experts. `adam_beta2` is the decay of AdamW's second moment per step. `packed_tokens` above 0 packs text
    rows of a batch into sequences of at most that many tokens; at 0 rows are padded. `continuation` says whether the
    adapter in `init_from` has the same placement or covers a part of it. `earlier` are the validation rows of the
    earlier stages of a curriculum. `template_date` is the date that the chat template shows, None if it shows none.
    `train_slice_rows` is how many of the first training rows every eval measures the loss on. `replay` are general rows
    that make up `replay_ratio` of the rows trained on. With `pilot_steps` the trial is a pilot, which tries a rate: it
    ends after so many of the `steps` of its schedule. `probes` are those that the study asks for beside its own.
    """

    format: Format = FORMAT
    name: Name
    arm: Name
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
    adam_beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = ADAM_BETA2
    schedule: str = "cosine"
    warmup_ratio: Fraction = 0.2
    min_rate_ratio: Fraction = 0.1
    max_gradient_norm: Annotated[float, Field(gt=0)] = 1.0
    steps: PositiveInt = 120
    batch_rows: PositiveInt = 16
    accumulation_steps: PositiveInt = 1
    batch_warmup_ratio: Fraction = 0.0
    eval_every_steps: PositiveInt = 24
    max_tokens: PositiveInt = 2048
    template_date: date | None = None
    packed_tokens: Annotated[int, Field(ge=0, le=10**9)] = 0
    train_slice_rows: PositiveInt = TRAIN_SLICE_ROWS
    probes: tuple[ProbeRequest, ...] = ()
    seed: Seed = 0
    data_seed: Seed = 0
    init_from: Source | None = None
    continuation: Literal["same", "extended"] = "same"
    optimizer: Literal["fresh", "resumed"] = "fresh"
    replay: Source | None = None
    replay_ratio: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    pilot_steps: Annotated[int, Field(ge=0, le=10**9)] = 0

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        earlier = EARLIER_DEFAULTS if values.get("format", FORMAT) in EARLIER_FORMATS else {}
        arm = {"arm": values["name"]} if "name" in values else {}
        return {**earlier, **arm, **values}

    @model_validator(mode="after")
    def _resumed_needs_parent(self) -> Self:
        if self.optimizer == "resumed" and self.init_from is None:
            raise ValueError("optimizer `resumed` needs `init_from`: there is no optimizer state to resume")
        if self.optimizer == "resumed" and self.continuation == "extended":
            raise ValueError("optimizer `resumed` needs continuation `same`: new modules have no optimizer state")
        return self

    @model_validator(mode="after")
    def _linears_are_chosen_once(self) -> Self:
        if self.target_modules and self.placement.modules != "all":
            raise ValueError(
                f"only one of a kind of modules and target_modules may choose the linears, but got "
                f"{self.placement.modules} and {', '.join(self.target_modules)}"
            )
        return self

    @model_validator(mode="after")
    def _rows_fit_packed_sequences(self) -> Self:
        if 0 < self.packed_tokens < self.max_tokens:
            raise ValueError(
                f"packed_tokens must be 0 or at least max_tokens = {self.max_tokens}, so that every row fits, "
                f"but got {self.packed_tokens}"
            )
        return self

    @model_validator(mode="after")
    def _has_replay_rows_and_ends_in_time(self) -> Self:
        if (self.replay is None) != (self.replay_ratio == 0.0):
            raise ValueError("replay needs both its rows and a replay_ratio above 0, or neither")
        if self.pilot_steps >= self.steps:
            raise ValueError(f"pilot_steps must be below steps = {self.steps}, but got {self.pilot_steps}")
        return self

    @model_validator(mode="after")
    def _can_be_finished(self) -> Self:
        problem = budget_problem(self.steps, self.effective_rows) or experts_problem(self.target_modules, self.dropout)
        if problem:
            raise ValueError(problem)
        return self

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, name: str) -> str:
        if name not in SCHEDULES:
            raise ValueError(f"must be one of {', '.join(SCHEDULES)}")
        return name

    @cached_property
    def trial_id(self) -> str:
        """Return twelve hex digits of a hash of all values except `name`, `arm` and the paths of the files."""
        return hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest()[:12]

    @property
    def effective_rows(self) -> int:
        """Rows per optimizer step, after batch warm-up."""
        return self.batch_rows * self.accumulation_steps

    @property
    def last_step(self) -> int:
        """Return the step at which the trial ends; a pilot ends before its schedule does."""
        return self.pilot_steps or self.steps

    def rows_at(self, step: int) -> int:
        """Return the number of rows in optimizer step `step`, counted from 0."""
        return rows_at(step, self.effective_rows, math.ceil(self.batch_warmup_ratio * self.steps))

    def rows_before(self, step: int) -> int:
        """Return the number of rows that all steps before `step` use."""
        return rows_before(step, self.effective_rows, math.ceil(self.batch_warmup_ratio * self.steps))

    def baseline(self) -> TrialSpec:
        """Return the baseline of this trial: the same base, data and quantization, without an adapter."""
        return self.model_copy(
            update={
                "name": f"{BASELINE_ARM}-{self.quantization}",
                "arm": BASELINE_ARM,
                "placement": Placement(),
                "init_from": None,
                "continuation": "same",
                "optimizer": "fresh",
                **NO_REPLAY_NO_PILOT,
            }
        )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values, which has an id of its own."""
        copied = super().model_copy(update=update, deep=deep)
        vars(copied).pop("trial_id", None)
        return copied

    def identity(self) -> dict[str, Any]:
        """Return the values that affect the result: sources by their hash, without name, arm and paths.

        A baseline does not train, so its identity has no training settings: all arms with the same base, data and
        quantization share one baseline.
        """
        values = self.model_dump(mode="json", exclude={"name", "arm"})
        for key, value in values.items():
            if isinstance(value, dict) and "sha256" in value:
                values[key] = value["sha256"]
        values["earlier"] = [source.sha256 for source in self.earlier]
        values = {key: value for key, value in values.items() if (key, value) not in NO_REPLAY_NO_PILOT.items()}
        if self.format == 1:
            del values["format"]
        # without them, trials keep the ids of versions that did not have these settings
        if not self.packed_tokens:
            del values["packed_tokens"]
        if self.adam_beta2 == ADAM_BETA2:
            del values["adam_beta2"]
        if self.template_date is None:
            del values["template_date"]
        if self.train_slice_rows == TRAIN_SLICE_ROWS:
            del values["train_slice_rows"]
        values["probes"] = [one.identity() for one in self.probes]
        if not self.probes:
            del values["probes"]
        if self.placement.is_baseline:
            values = {key: values[key] for key in ("format", *BASELINE_IDENTITY) if key in values}
        return values


NOT_SETTINGS = (
    "format", "name", "arm", "base", "train", "validation", "ood", "earlier", "placement", "init_from", "continuation",
    "optimizer", "template_date", *NO_REPLAY_NO_PILOT,
)  # fmt: skip


def default_settings(spec_format: Format = FORMAT) -> dict[str, Any]:
    """Return the default of every training setting; sources, placement and parent adapter are not included."""
    own = {name: field.default for name, field in TrialSpec.model_fields.items() if name not in NOT_SETTINGS}
    return {**own, **(EARLIER_DEFAULTS if spec_format in EARLIER_FORMATS else {})}


def parse_spec(values: Mapping[str, Any], where: str = "spec") -> TrialSpec:
    """Validate `values` into a TrialSpec.

    Raises:
        UserError: a key is unknown or out of range; the message names all such keys and `where`.
    """
    try:
        return TrialSpec.model_validate(values)
    except ValidationError as error:
        raise UserError(*_explain(error, where)) from None


def read_spec(values: Any, where: str = "spec") -> TrialSpec:
    """Validate the content of a file into a TrialSpec; this is the only reader of format 1.

    A file without a format has format 1. Without an arm, the arm is the part of the name before the first `-`.

    Raises:
        UserError: as for `parse_spec`, or `values` is not an object.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: a trial must be a JSON object, but got {quoted(values)}")
    return parse_spec({"format": 1, **_arm_of_name(values.get("name")), **values}, where)


def _arm_of_name(name: object) -> dict[str, str]:
    if not isinstance(name, str):
        return {}
    return {"arm": name.split("-", 1)[0] + (RESTART if name.endswith(RESTART) else "")}


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
            if problem["loc"]:
                lines.append(f"{where}: `{key}`: {must}, but got {quoted(problem['input'])}")
            else:
                lines.append(f"{where}: {must}")  # about several settings, which it names with their values
    return "\n".join(lines), "; ".join(hints) or None
