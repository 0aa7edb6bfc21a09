"""Checks whether a trial can continue a saved LoRA adapter; reads the adapter's files before anything is loaded.

`same` continues an adapter on its own placement. `extended` keeps the adapter and adds modules with lora_B = 0, PEFT's
default initialization, so that the model computes the same function as the parent until the first step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.checkpoints.adapter import SavedAdapter, adapter_source, read_adapter
from trainables.checkpoints.base_fit import check_fits_base
from trainables.checkpoints.base_lookup import hub_name, is_copy_by_name
from trainables.checkpoints.lineage import LINEAGE, lineage_of
from trainables.errors import UserError, named
from trainables.io.files import write_json
from trainables.model.base_files import is_same_base
from trainables.model.families import TOWERS
from trainables.model.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from trainables.model.placement import ResolvedPlacement
from trainables.record import Record
from trainables.spec import TrialSpec

if TYPE_CHECKING:
    from trainables.model.lora import Adapter
    from trainables.model.optimizer import Optimizer

SHOWN_MODULES = 3
UNKNOWN_BASE = "unknown"


def read_parent(spec: TrialSpec, placement: ResolvedPlacement) -> SavedAdapter:
    """Read the adapter that `spec` continues and check it against the spec and the planned hash.

    Raises:
        UserError: the adapter cannot be continued, or it changed since it was planned.
    """
    if spec.init_from is None:
        raise ValueError(f"trial {spec.name} continues no adapter")
    now = adapter_source(spec.init_from.path, spec.optimizer)
    if now.sha256 != spec.init_from.sha256:
        raise UserError(
            f"{now.path}: the adapter must be unchanged since it was planned, sha256 {spec.init_from.sha256[:12]}, "
            f"but its sha256 is {now.sha256[:12]}",
            "plan again in another experiment, or restore the adapter",
        )
    saved = read_adapter(now.path)
    check_fits_base(saved, spec.base.path)
    check_continues(saved, spec, placement)
    return saved


def check_continues(saved: SavedAdapter, spec: TrialSpec, placement: ResolvedPlacement) -> None:
    """Refuse an adapter of another rank, scale, base or placement; `extended` accepts a subset of the placement.

    Raises:
        UserError: names every difference with both values and the file.
    """
    config = saved.directory / ADAPTER_CONFIG
    own = (("r", saved.rank, spec.rank), ("lora_alpha", saved.alpha, spec.alpha),
           ("use_rslora", saved.rslora, spec.rslora))  # fmt: skip
    faults = [
        f"{config}: `{key}` must equal this trial's value {ours}, but it is {theirs}"
        for key, theirs, ours in own
        if theirs != ours
    ]
    faults += _module_faults(saved, spec, placement) + _base_faults(saved, spec)
    if faults:
        hint = "rank, scale, base and placement must be those of the saved adapter"
        more = "; an `extended` placement may add modules" if spec.continuation == "extended" else ""
        raise UserError("\n".join(faults), hint + more)


def base_match(saved: SavedAdapter, spec: TrialSpec) -> str:
    """Compare the adapter's base with the trial's: `same, by ...`, `another, by sha256` or `unknown...`.

    Another name proves nothing: models are renamed, copied and quantized under other names. PEFT ignores it too.
    """
    if saved.base_sha256 is not None:
        return "same, by sha256" if is_same_base(saved.base_sha256, spec.base) else "another, by sha256"
    if saved.base_name is None:
        return UNKNOWN_BASE
    if Path(saved.base_name).expanduser().resolve() == spec.base.path.resolve():
        return "same, by path"
    own_name = hub_name(spec.base.path)
    if own_name is not None and own_name == saved.base_name:
        return "same, by name"
    copy = ", by its name a copy of this base" if is_copy_by_name(saved.base_name, spec.base.path) else ""
    return f"{UNKNOWN_BASE}: the adapter names {named(saved.base_name)}{copy}"


def extension(saved: SavedAdapter, placement: ResolvedPlacement) -> tuple[str, ...]:
    """Return the modules of `placement` that the saved adapter lacks."""
    return tuple(name for name in placement.module_names if name not in saved.modules)


def _module_faults(saved: SavedAdapter, spec: TrialSpec, placement: ResolvedPlacement) -> list[str]:
    weights = saved.directory / ADAPTER_WEIGHTS
    shapes = {one.name: (spec.rank, one.inputs, one.outputs) for t in TOWERS for one in placement.linears[t]}
    extra = [name for name in saved.modules if name not in shapes]
    missing = extension(saved, placement) if spec.continuation == "same" else ()
    faults = []
    if extra or missing:
        rule = "equal" if spec.continuation == "same" else "be part of"
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
    if saved.base_sha256 is None or saved.base_sha256 == spec.base.sha256:
        return []
    theirs, ours = saved.base_sha256[:12], spec.base.sha256[:12]
    return [f"{saved.directory}: it must have been trained on this base, {ours}, but it was trained on {theirs}"]


def _listed(names: Sequence[str]) -> str:
    counts = [f"{sum(tower_of(name) == tower for name in names)} {tower}" for tower in (*TOWERS, "other")]
    shown = ", ".join(names[:SHOWN_MODULES]) + (", ..." if len(names) > SHOWN_MODULES else "")
    return f"{len(names)} modules ({', '.join(one for one in counts if one[0] != '0')}: {shown})"


def tower_of(module: str) -> str:
    """Return the tower of a module by its name, `other` if it is in neither."""
    vision = any(part in ("visual", "vision_tower", "vision_model") for part in module.split("."))
    return "vision" if vision else "language" if ".layers." in module else "other"


def contains(modules: Iterable[str], placement: ResolvedPlacement) -> bool:
    """Return True if the placement has all of `modules`."""
    return set(modules) <= set(placement.module_names)


def load_parent(parent: Path, spec: TrialSpec, adapter: Adapter, optimizer: Optimizer, record: Record) -> None:
    """Load the parent adapter into a new adapter and write `lineage.json`.

    Raises:
        UserError: the parent cannot be continued, or it changed since it was planned.
        PlacementMismatch: an extended adapter does not compute the same function as its parent.
    """
    saved = read_parent(spec, adapter.placement)
    if spec.continuation == "same":
        adapter.load(parent, base_tensors=saved.base_tensors)
    else:
        adapter.extend_from(parent, base_tensors=saved.base_tensors)
    if spec.optimizer == "resumed":
        optimizer.load(parent)
    new_modules = len(extension(saved, adapter.placement))
    lineage = lineage_of(spec, base_match(saved, spec), new_modules)
    write_json(record.directory / LINEAGE, lineage)
