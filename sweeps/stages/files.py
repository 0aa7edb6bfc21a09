"""Reads the user's stages from YAML: one file per stage, or one file with a list `stages`.

    name: stage2                       # default: the name of the file
    prev_checkpoint: models/stage1     # name or `output_dir` of a stage, or a LoRA directory; default: a new adapter
    output_dir: models/stage2          # a name that `prev_checkpoint` of a later stage can use for this one
    base_model: Qwen/Qwen3-VL-8B-Instruct
    train: stage2/train.jsonl          # relative to the YAML file, like validation and ood
    validation: stage2/val.jsonl
    ood: ood.jsonl
    lr: 3.5e-5
    lora: {r: 4, alpha: 8, target_modules: [q_proj, k_proj, v_proj, o_proj], language_layers: 36}

Other keys are `vision_lr`, `epochs` or `steps`, `eval_every`, and in `lora` also `dropout` and `vision_blocks`. Keys
that are left out have the study's values. Unknown keys are errors. The checks here need neither the base nor the rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.checkpoints.adapter import adapter_source
from trainables.errors import UserError, nearest
from trainables.io.strict_yaml import NUMBER_LIKE, Document, read_yaml
from trainables.local_paths import local_path

KEYS: dict[str, type] = {
    "name": str, "prev_checkpoint": str, "output_dir": str, "base_model": str, "train": str, "validation": str,
    "ood": str, "lr": float, "vision_lr": float, "epochs": float, "steps": int, "eval_every": int, "lora": Mapping,
}  # fmt: skip
LORA_KEYS: dict[str, type] = {
    "r": int, "alpha": float, "dropout": float, "target_modules": list, "language_layers": int, "vision_blocks": int,
}  # fmt: skip
NEEDED = ("train", "validation", "ood")
SETTINGS = {"lr": "learning_rate", "vision_lr": "vision_learning_rate", "epochs": "epochs", "steps": "steps",
            "eval_every": "eval_every_steps"}  # fmt: skip
LORA_SETTINGS = {"r": "rank", "alpha": "alpha", "dropout": "dropout", "target_modules": "target_modules"}
DEPTHS = {"language_layers": "language", "vision_blocks": "vision"}
KINDS = {
    float: ("a number", "write it as 5.0e-5 or 0.1"),
    int: ("a whole number", "write it as 8"),
    str: ("a text", 'quote it: "..."'),
    list: ("a list", "write it as [q_proj, v_proj]"),
    Mapping: ("a mapping", "write it as {r: 4, alpha: 8}"),
}
NAME = re.compile(r"[A-Za-z0-9_]+")
MAXIMUM_SHOWN = 80  # characters of a value in an error


@dataclass(frozen=True)
class NumberRule:
    """A condition on a number, in words and as a predicate."""

    words: str
    is_met: Callable[[float], bool]


ABOVE_0 = NumberRule("above 0", lambda value: value > 0)
AT_LEAST_0 = NumberRule("0 or more", lambda value: value >= 0)
AT_LEAST_1 = NumberRule("1 or more", lambda value: value >= 1)
RULES = {
    "lr": ABOVE_0, "vision_lr": ABOVE_0, "epochs": ABOVE_0, "steps": AT_LEAST_1, "eval_every": AT_LEAST_1,
    "r": AT_LEAST_1, "alpha": ABOVE_0, "dropout": NumberRule("0 or more and below 1", lambda value: 0 <= value < 1),
    "language_layers": AT_LEAST_0, "vision_blocks": AT_LEAST_0,
}  # fmt: skip


@dataclass(frozen=True)
class StageFile:
    """One stage as written in a file; `keys` lead to its `values` in the YAML document."""

    name: str
    document: Document
    keys: tuple[str | int, ...]
    values: Mapping[str, Any]

    def where(self, *keys: str | int) -> str:
        """Return "file:line: `key`"."""
        return self.document.where(*self.keys, *keys)

    def path(self, key: str) -> Path:
        """Return the absolute path of the file that a key names, relative to the YAML file."""
        given = local_path(self.values[key], self.where(key))
        return (self.document.path.parent / given.expanduser()).resolve()

    @contextmanager
    def errors_at(self, *keys: str | int) -> Iterator[None]:
        """Prefix the message of a UserError that is raised in the block with "file:line: `key`".

        Raises:
            UserError: the block raised one.
        """
        try:
            yield
        except UserError as error:
            raise UserError(f"{self.where(*keys)}: {error.message}", error.hint) from None

    @property
    def settings(self) -> dict[str, Any]:
        """Return the values of the stage as settings of a trial, without its placement."""
        lora: Mapping[str, Any] = self.values.get("lora", {})
        found = {setting: self.values[key] for key, setting in SETTINGS.items() if key in self.values}
        found |= {setting: lora[key] for key, setting in LORA_SETTINGS.items() if key in lora}
        return found

    @property
    def depths(self) -> dict[str, int]:
        """Return how many last layers the stage adapts, only for the towers that it names."""
        lora: Mapping[str, Any] = self.values.get("lora", {})
        return {tower: lora[key] for key, tower in DEPTHS.items() if key in lora}


@dataclass(frozen=True)
class StageChain:
    """Stages in training order; `start` is the adapter that the first one continues, None for a new one."""

    stages: tuple[StageFile, ...]
    start: Path | None


def read_stages(paths: Sequence[Path]) -> StageChain:
    """Read stage files and put them in the order of their `prev_checkpoint`.

    Raises:
        UserError: a stage is invalid, or the stages are not one chain; names file, line and key.
    """
    stages = [stage for path in paths for stage in _stages_in(path)]
    names: dict[str, StageFile] = {}
    for stage in stages:
        other = names.setdefault(stage.name, stage)
        if other is not stage:
            raise UserError(
                f"{stage.where('name')}: the names of stages must differ, but {other.where('name')} is {stage.name} "
                "too",
                "give one of the two another `name`; the default is the name of the file",
            )
    return _ordered(stages)


def _stages_in(path: Path) -> list[StageFile]:
    document = read_yaml(path)
    if "stages" not in document.values:
        return [_stage(document, (), document.values, path.stem)]
    for key in document.values:
        if key != "stages":
            raise UserError(
                f"{document.where(key)}: a file with `stages` must have no other key", "put it into each stage"
            )
    listed = document.values["stages"]
    if not isinstance(listed, list) or not listed or not all(isinstance(one, Mapping) for one in listed):
        raise UserError(f"{document.where('stages')} must be a list of stages, but got {_shown(listed)}",
                        "write each stage below it as a list item, e.g. `- name: stage1`")  # fmt: skip
    return [_stage(document, ("stages", i), one, f"stage{i + 1}") for i, one in enumerate(listed)]


def _stage(document: Document, keys: tuple[str | int, ...], values: Mapping[str, Any], name: str) -> StageFile:
    _check(document, keys, values, KEYS)
    _check(document, (*keys, "lora"), values.get("lora", {}), LORA_KEYS)
    stage = StageFile(_name_of(values.get("name", name)), document, keys, values)
    if not NAME.fullmatch(stage.name):
        raise UserError(f"{stage.where('name')} must be letters, digits and _, but got {_shown(stage.name)}",
                        "the default of `name` is the name of the file")  # fmt: skip
    for key in NEEDED:
        if key not in values:
            raise UserError(f"{stage.where()}: stage {stage.name} must have `{key}`, but it has none",
                            "each stage names its own train, validation and ood files")  # fmt: skip
        if not stage.path(key).is_file():
            raise UserError(f"{stage.where(key)} must be a file, but {stage.path(key)} is not",
                            "paths are relative to the directory of the YAML file")  # fmt: skip
    if "steps" in values and "epochs" in values:
        raise UserError(f"{stage.where('epochs')} and `steps` both set the budget, but only one of them may be given",
                        "remove one of the two")  # fmt: skip
    targets = values.get("lora", {}).get("target_modules", [])
    if not all(isinstance(one, str) for one in targets):
        raise UserError(f"{stage.where('lora', 'target_modules')} must be names of modules, but got {_shown(targets)}",
                        KINDS[list][1])  # fmt: skip
    return stage


def _name_of(text: str) -> str:
    return text.replace("-", "_").replace(" ", "_")


def _check(
    document: Document, keys: tuple[str | int, ...], values: Mapping[str, Any], known: Mapping[str, type]
) -> None:
    for key, value in values.items():
        where = document.where(*keys, key)
        if key not in known:
            raise UserError(f"{where} is not a key of a stage", nearest(key, known))
        kind = known[key]
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise UserError(f"{where} must be {KINDS[kind][0]}, but got {_shown(value)}", _as_kind(value, kind))
        rule = RULES.get(key)
        if rule and not rule.is_met(value):
            raise UserError(f"{where} must be {rule.words}, but got {_shown(value)}",
                            f"leave out `{key}` to use the study's value")  # fmt: skip


def _as_kind(value: Any, kind: type) -> str:
    if isinstance(value, str) and kind in {int, float} and NUMBER_LIKE.fullmatch(value):
        return f"write {value} without quotes"
    return KINDS[kind][1]


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= MAXIMUM_SHOWN else f"{shown[:MAXIMUM_SHOWN]}..."


# -------------------------------------------------------------------- the order
def _ordered(stages: Sequence[StageFile]) -> StageChain:
    parents = {stage.name: _parent_of(stage, stages) for stage in stages}
    first = [stage for stage in stages if not isinstance(parents[stage.name], StageFile)]
    if not first:
        loop = " -> ".join(stage.name for stage in stages)
        raise UserError(
            f"{stages[0].where('prev_checkpoint')} must lead back to a first stage, but the stages go in a circle: "
            f"{loop}",
            "the first stage has no `prev_checkpoint`, or one that names an adapter",
        )
    if len(first) > 1:
        raise UserError(
            f"{first[1].where('prev_checkpoint')}: stages must be one chain, but {first[0].name} and {first[1].name} "
            "both start one",
            "name in `prev_checkpoint` the stage that each stage continues",
        )
    chain = [first[0]]
    while following := [stage for stage in stages if parents[stage.name] is chain[-1]]:
        if len(following) > 1:
            raise UserError(
                f"{following[1].where('prev_checkpoint')}: only one stage can continue {chain[-1].name}, but "
                f"{following[0].name} does too",
                "a curriculum cannot branch; run the other branch as another curriculum",
            )
        chain.append(following[0])
    if len(chain) < len(stages):
        left = next(stage for stage in stages if stage not in chain)
        raise UserError(f"{left.where('prev_checkpoint')} must lead back to {first[0].name}, but it goes in a circle",
                        "name in `prev_checkpoint` the stage that each stage continues")  # fmt: skip
    start = parents[first[0].name]
    return StageChain(tuple(chain), start if isinstance(start, Path) else None)


def _parent_of(stage: StageFile, stages: Sequence[StageFile]) -> StageFile | Path | None:
    given = stage.values.get("prev_checkpoint")
    if given is None:
        return None
    path = local_path(given, stage.where("prev_checkpoint"))
    for other in stages:
        if given == other.name or path == Path(other.values.get("output_dir", "\0")):
            return other
    for other in stages:  # a name may be written with the characters that `_name_of` replaces
        if _name_of(given) == other.name:
            return other
    places = (Path(given).expanduser(), stage.document.path.parent / given)
    found = next((place.resolve() for place in places if place.is_dir()), None)
    if found is None:
        raise UserError(
            f"{stage.where('prev_checkpoint')} must be a stage or a directory with an adapter, but {given} is neither",
            f"the stages are {', '.join(one.name for one in stages)}; a stage can also be named by its `output_dir`",
        )
    with stage.errors_at("prev_checkpoint"):
        adapter_source(found)
    return found
