"""Can a trial go on from a saved LoRA adapter? Told from the adapter's two files, before anything is loaded or spent.

`same` continues an adapter on its own placement; `extended` keeps it and adds modules that start at PEFT's own
initialization (lora_B = 0), so that the function is the parent's until the first step. Source: briefs 000 and 001.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from trainables.errors import UserError
from trainables.placement import ResolvedPlacement
from trainables.record import RecordDamaged, read_json
from trainables.spec import Source, TrialSpec
from trainables.towers import TOWERS

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
OPTIMIZER_WEIGHTS = "optimizer.safetensors"

PREFIX = "base_model.model."
SHOWN_MODULES = 3
UNKNOWN_BASE = "unknown"
# what PEFT can save that this project does not train on: each would be lost or change what the tensors mean
PLAIN = {"peft_type": ("LORA",), "bias": ("none", None), "use_dora": (False, None), "modules_to_save": (None, []),
         "rank_pattern": ({}, None), "alpha_pattern": ({}, None), "fan_in_fan_out": (False, None)}  # fmt: skip

Shape = tuple[int, ...]


@dataclass(frozen=True)
class SavedAdapter:
    """What a LoRA directory of PEFT holds; `modules` maps a linear's whole name to its (rank, inputs, outputs).

    `base_sha256` is None where no record tells it, `base_name` is what PEFT wrote as `base_model_name_or_path`.
    """

    directory: Path
    rank: int
    alpha: float
    rslora: bool
    modules: Mapping[str, Shape]
    base_name: str | None
    base_sha256: str | None


def adapter_source(directory: Path, optimizer: str = "fresh") -> Source:
    """Return an adapter as what a trial continues: its path, and the hash of what decides the result.

    That is `adapter_model.safetensors`, as `sha256sum` prints it; where the optimizer is resumed, its state too.

    Raises:
        UserError: the directory does not exist or lacks one of its files.
    """
    directory = directory.expanduser().resolve()
    if not directory.is_dir():
        raise UserError(f"an adapter to continue must be a directory, but {directory} is not", "check the path")
    if not all((directory / name).is_file() for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)):
        raise UserError(
            f"{directory}: an adapter directory must hold {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}",
            "pass a trial's `best/`, one of its `checkpoints/step-N/`, or any LoRA directory that PEFT saved",
        )
    digest = _sha256(directory / ADAPTER_WEIGHTS)
    if optimizer == "resumed":
        state = directory / OPTIMIZER_WEIGHTS
        if not state.is_file():
            raise UserError(
                f"{directory}: a resumed optimizer needs {OPTIMIZER_WEIGHTS}, but there is none",
                "continue from a checkpoint or `best` of a trial, or with optimizer `fresh`",
            )
        digest = sha256(f"{digest} {_sha256(state)}".encode()).hexdigest()
    return Source(path=directory, sha256=digest)


def read_adapter(directory: Path) -> SavedAdapter:
    """Read configuration and tensor names; no tensor is loaded.

    Raises:
        UserError: a file is missing or broken, or holds an adapter of another kind than plain LoRA.
    """
    path = adapter_source(directory).path
    config = _config(path / ADAPTER_CONFIG)
    return SavedAdapter(
        directory=path,
        rank=int(config["r"]),
        alpha=float(config["lora_alpha"]),
        rslora=bool(config.get("use_rslora", False)),
        modules=_modules(path / ADAPTER_WEIGHTS),
        base_name=config.get("base_model_name_or_path") or None,
        base_sha256=_recorded_base(path),
    )


def opened(spec: TrialSpec, placement: ResolvedPlacement) -> SavedAdapter:
    """Read the adapter that `spec` continues and hold it against the spec and the hash it was planned with.

    Raises:
        UserError: it cannot be continued, or it changed since it was planned.
    """
    if spec.init_from is None:
        raise ValueError(f"trial {spec.name} continues nothing")
    now = adapter_source(spec.init_from.path, spec.optimizer)
    if now.sha256 != spec.init_from.sha256:
        raise UserError(
            f"{now.path}: the adapter must be the one that was planned, sha256 {spec.init_from.sha256[:12]}, "
            f"but it changed since and is {now.sha256[:12]}",
            "plan again in another experiment, or put the adapter back",
        )
    saved = read_adapter(now.path)
    check_continues(saved, spec, placement)
    return saved


def check_continues(saved: SavedAdapter, spec: TrialSpec, placement: ResolvedPlacement) -> None:
    """Refuse an adapter of another rank, scale, base or placement; `extended` takes a part of the placement.

    Raises:
        UserError: naming everything that differs, both values, and the file.
    """
    config = saved.directory / ADAPTER_CONFIG
    own = (("r", saved.rank, spec.rank), ("lora_alpha", saved.alpha, spec.alpha),
           ("use_rslora", saved.rslora, spec.rslora))  # fmt: skip
    faults = [
        f"{config}: `{key}` must equal this trial's, but it is {theirs} and not {ours}"
        for key, theirs, ours in own
        if theirs != ours
    ]
    faults += _module_faults(saved, spec, placement) + _base_faults(saved, spec)
    if faults:
        hint = "rank, scale and base must be the saved adapter's, and so must the placement"
        more = " or, `extended`, hold all of its modules" if spec.continuation == "extended" else ""
        raise UserError("\n".join(faults), hint + more)


def base_standing(saved: SavedAdapter, spec: TrialSpec) -> str:
    """Say how it is known that the adapter was trained on this base: `same, by ...`, or honestly `unknown`."""
    if saved.base_sha256 is not None:
        return "same, by sha256" if saved.base_sha256 == spec.base.sha256 else "another, by sha256"
    if saved.base_name is None:
        return UNKNOWN_BASE
    if Path(saved.base_name).expanduser().resolve() == spec.base.path.resolve():
        return "same, by path"
    hub_name = _hub_name(spec.base.path)
    if hub_name is not None and saved.base_name.count("/") == 1 and not Path(saved.base_name).exists():
        return "same, by name" if hub_name == saved.base_name else "another, by name"
    return UNKNOWN_BASE


def extension(saved: SavedAdapter, placement: ResolvedPlacement) -> tuple[str, ...]:
    """Return the modules of `placement` that the saved adapter lacks."""
    return tuple(name for name in placement.module_names if name not in saved.modules)


# -------------------------------------------------------------------- what differs
def _module_faults(saved: SavedAdapter, spec: TrialSpec, placement: ResolvedPlacement) -> list[str]:
    weights = saved.directory / ADAPTER_WEIGHTS
    shapes = {one.name: (spec.rank, one.inputs, one.outputs) for t in TOWERS for one in placement.linears[t]}
    extra = [name for name in saved.modules if name not in shapes]
    missing = extension(saved, placement) if spec.continuation == "same" else ()
    faults = []
    if extra or missing:
        rule = "equal" if spec.continuation == "same" else "lie within"
        sides = ((extra, "only in the saved adapter"), (missing, "only in this trial's placement"))
        parts = [f"{_listed(names)} {what}" for names, what in sides if names]
        faults.append(f"{weights}: its modules must {rule} {spec.placement}, but {'; '.join(parts)}")
    faults += [
        f"{weights}: {name} must be (rank, inputs, outputs) = {shapes[name]}, but it is {shape}"
        for name, shape in saved.modules.items()
        if name in shapes and shape[1:] != shapes[name][1:]
    ][:SHOWN_MODULES]
    return faults


def _base_faults(saved: SavedAdapter, spec: TrialSpec) -> list[str]:
    standing = base_standing(saved, spec)
    if not standing.startswith("another"):
        return []
    theirs = saved.base_sha256[:12] if saved.base_sha256 else saved.base_name
    ours = spec.base.sha256[:12] if saved.base_sha256 else _hub_name(spec.base.path)
    return [f"{saved.directory}: it must have been trained on this base, {ours}, but it was on {theirs}"]


def _listed(names: Sequence[str]) -> str:
    counts = [f"{sum(tower_of(name) == tower for name in names)} {tower}" for tower in (*TOWERS, "other")]
    shown = ", ".join(names[:SHOWN_MODULES]) + (", ..." if len(names) > SHOWN_MODULES else "")
    return f"{len(names)} modules ({', '.join(one for one in counts if one[0] != '0')}: {shown})"


def tower_of(module: str) -> str:
    """Name the tower of a module by its name alone, `other` where it is in neither."""
    vision = any(part in ("visual", "vision_tower", "vision_model") for part in module.split("."))
    return "vision" if vision else "language" if ".layers." in module else "other"


# -------------------------------------------------------------------- what the files hold
def _config(path: Path) -> Mapping[str, Any]:
    try:
        config = read_json(path)
    except RecordDamaged as error:
        raise UserError(error.message, "save the adapter again") from None
    missing = [key for key in ("r", "lora_alpha") if not isinstance(config.get(key), int | float)]
    if missing:
        raise UserError(f"{path}: `{missing[0]}` must be a number, but it is {config.get(missing[0])!r}")
    for key, plain in PLAIN.items():
        if key in config and config[key] not in plain:
            raise UserError(
                f"{path}: only plain LoRA can be continued, `{key}` {plain[0]!r}, but it is {config[key]!r}",
                "what is continued must mean the same here as where it was trained",
            )
    return config


def _modules(path: Path) -> dict[str, Shape]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            shapes: dict[str, Shape] = {
                key: tuple(file.get_slice(key).get_shape())
                for key in file.keys()  # noqa: SIM118 a file is no dict
            }
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: the adapter's weights must be safetensors, but {error}", "save it again") from None
    modules: dict[str, Shape] = {}
    for name in sorted({_module_of(key, path) for key in shapes}):
        pair = [shapes.get(f"{PREFIX}{name}.{factor}.weight") for factor in ("lora_A", "lora_B")]
        if pair[0] is None or pair[1] is None:
            raise UserError(f"{path}: every module must have lora_A and lora_B, but {name} has one of them only")
        modules[name] = (pair[0][0], pair[0][1], pair[1][0])
    if not modules:
        raise UserError(f"{path}: an adapter must hold LoRA tensors, but it holds none")
    return modules


def _module_of(key: str, path: Path) -> str:
    name = key.removeprefix(PREFIX)
    for factor in (".lora_A.weight", ".lora_B.weight"):
        if key.startswith(PREFIX) and name.endswith(factor):
            return name.removesuffix(factor)
    raise UserError(f"{path}: only LoRA tensors named {PREFIX}<module>.lora_A.weight can be continued, but got {key}")


def _recorded_base(directory: Path) -> str | None:
    """Read the base's hash from `best/provenance.json`, or from the record a checkpoint lies in."""
    for path, keys in ((directory / "provenance.json", ("spec", "base")),
                       (directory.parent.parent / "spec.json", ("base",))):  # fmt: skip
        values: Any = read_json(path) if path.is_file() else None
        for key in keys:
            values = values.get(key) if isinstance(values, dict) else None
        if isinstance(values, dict) and isinstance(values.get("sha256"), str):
            return values["sha256"]
    return None


def _hub_name(base: Path) -> str | None:
    """Return `owner/name` of a snapshot in the hub's cache, None of any other directory."""
    cached = next((part for part in base.parts if part.startswith("models--")), None)
    return "/".join(cached.split("--")[1:]) if cached else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def contains(modules: Iterable[str], placement: ResolvedPlacement) -> bool:
    """True when every one of `modules` lies within the placement."""
    return set(modules) <= set(placement.module_names)
