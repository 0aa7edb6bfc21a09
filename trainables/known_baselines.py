"""Baselines that were measured before on this storage: what decides their results, where they are, and copies of them.

`<storage>/.baselines/<digest>.json` names the record of a measured baseline. The digest is that of all that can change
what a baseline measures. A record that takes its results from another one says so in `measured_by.json`.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trainables.code_digest import code_digest
from trainables.engine_log import FILE as ENGINES
from trainables.engine_log import uses
from trainables.errors import UserError
from trainables.io.checksums import canonical_json
from trainables.io.files import FileDamaged, read_json, write_json, write_text
from trainables.io.manifest import MANIFEST
from trainables.io.user_cache import keep
from trainables.record import Record
from trainables.record_check import METRICS, check_record
from trainables.spec import TrialSpec
from trainables.verdict import Verdict

DIRECTORY, SOURCE = ".baselines", "measured_by.json"
MEASURED_BY = "footprint.measured_by"  # the tag of a run in MLflow
COPIED = (METRICS, "samples/step-0.jsonl", "placement.json", ENGINES)
LIBRARIES = (
    "accelerate", "bitsandbytes", "jinja2", "numpy", "peft", "pillow", "safetensors", "tokenizers", "torch",
    "torchvision", "transformers",
)  # fmt: skip
MEASURED_ANEW = "nothing is to be done: the baseline is measured again"


# -------------------------------------------------------------------- the key
@dataclass(frozen=True)
class BaselineKey:
    """All that can change what a baseline measures.

    Attributes:
        identity: the identity of its spec as canonical JSON: format, digests of base (weights, tokenizer, templates,
            processors) and rows (with their pictures), quantization, compute dtype, and the date that templates show.
        device: `cpu` or `cuda`; `machine` is the instruction set of the processor.
        attention: the attention implementation that the configuration of the base asks for, empty for the default.
        generation: the digest of the base's `generation_config.json`, empty without one.
        libraries: the versions of the libraries that compute, tokenize and read pictures; those not installed are out.
        code: the digest of the code of the probes, evals, and of all else in `trainables`.
    """

    identity: str
    device: str
    machine: str
    attention: str
    generation: str
    libraries: tuple[tuple[str, str], ...]
    code: str

    @property
    def digest(self) -> str:
        """Return the digest by which the storage knows the baseline."""
        return sha256(canonical_json(asdict(self)).encode()).hexdigest()


def key_of(spec: TrialSpec, device: str) -> BaselineKey:
    """Return the key of a baseline that is measured on this kind of device, with the libraries and code of now."""
    base = spec.base.path
    generation = base / "generation_config.json"
    configuration = read_json(base / "config.json")
    return BaselineKey(
        identity=canonical_json(spec.identity()),
        device=device,
        machine=platform.machine(),
        attention=str(configuration.get("attn_implementation") or configuration.get("_attn_implementation") or ""),
        generation=sha256(generation.read_bytes()).hexdigest() if generation.is_file() else "",
        libraries=tuple(sorted(_versions().items())),
        code=code_digest(),
    )


def _versions() -> Mapping[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


# -------------------------------------------------------------------- what is known
@dataclass(frozen=True)
class MeasuredBy:
    """The record that a baseline's results were measured for: its experiment, its name, and the digest of the key."""

    experiment: str
    trial: str
    digest: str

    def __str__(self) -> str:
        """Return how messages name it."""
        return f"experiment `{self.experiment}`, trial {self.trial}, key {self.digest[:12]}"


def measured_by(record: Record) -> MeasuredBy | None:
    """Return which record a baseline has its results from; None if it was measured itself.

    Raises:
        FileDamaged: the file is not as it was written.
    """
    path = record.directory / SOURCE
    if not path.exists():
        return None
    kept = read_json(path)
    try:
        return MeasuredBy(**{name: str(kept[name]) for name in ("experiment", "trial", "digest")})
    except (KeyError, TypeError):
        raise FileDamaged(f"{path} must name an experiment, a trial and a digest, but it does not",
                          "restore it from a copy, or launch again with --fresh-baseline") from None  # fmt: skip


def known_baseline(storage: Path, key: BaselineKey) -> tuple[Record, MeasuredBy] | None:
    """Return the record that holds the results of a key, whole and completed; None if this storage knows none.

    Raises:
        FileDamaged: it knows one that cannot be used; says why.
    """
    path = storage / DIRECTORY / f"{key.digest}.json"
    if not path.exists():
        return None
    entry = read_json(path)
    if not isinstance(entry, dict) or entry.get("sha256") != _checksum(entry) or entry.get("digest") != key.digest:
        raise FileDamaged(f"{path} must be as it was written, but it is not", MEASURED_ANEW)
    source = MeasuredBy(entry["experiment"], entry["trial"], entry["digest"])
    record = Record(storage / source.experiment / "trials" / source.trial)
    if not record.exists():
        raise FileDamaged(f"{source}: its record must be on this storage, but {record.home} holds none", MEASURED_ANEW)
    _check_source(record, source, key, entry["manifest"])
    return record, source


def _check_source(record: Record, source: MeasuredBy, key: BaselineKey, manifest: str) -> None:
    try:
        check_record(record)
        verdict, identity = record.verdict(), canonical_json(record.spec().identity())
        kept = sha256((record.directory / MANIFEST).read_bytes()).hexdigest()
    except (UserError, OSError) as error:
        reason = error.message if isinstance(error, UserError) else str(error)
        raise FileDamaged(f"{source}: its record must be whole, but {reason}", MEASURED_ANEW) from None
    if verdict is None or verdict.kind != "completed":  # the integrity witness would have made it invalid
        raise FileDamaged(f"{source}: it must have completed, but its verdict is {verdict}", MEASURED_ANEW)
    if identity != key.identity or kept != manifest or measured_by(record) is not None:
        raise FileDamaged(
            f"{source}: its record must be unchanged since the baseline was measured, but it has changed", MEASURED_ANEW
        )


def remember(storage: Path, key: BaselineKey, record: Record) -> bool:
    """Let this storage know a baseline that was measured now; False if its record is not one for this key.

    The entry is replaced as a whole: of two launches at once the later one is known.
    """
    verdict, experiment = record.verdict(), record.home.parent.parent
    is_own = measured_by(record) is None and canonical_json(record.spec().identity()) == key.identity
    devices = {one.device.partition(":")[0] for one in uses(record.directory)}
    if verdict is None or verdict.kind != "completed" or not is_own or devices != {key.device}:
        return False
    manifest = sha256((record.directory / MANIFEST).read_bytes()).hexdigest()
    source = MeasuredBy(experiment.name, record.name, key.digest)
    entry = {**asdict(source), "key": asdict(key), "manifest": manifest}
    content = canonical_json({**entry, "sha256": _checksum(entry)})
    keep(storage / DIRECTORY / f"{key.digest}.json", content.encode())
    return True


def _checksum(entry: Mapping[str, Any]) -> str:
    return sha256(canonical_json({k: v for k, v in entry.items() if k != "sha256"}).encode()).hexdigest()


# -------------------------------------------------------------------- copies
def take_over(known: Record, source: MeasuredBy, record: Record) -> None:
    """Give a claimed record the results of a known baseline, and say whose they are; the verdict is written last."""
    record.forget_after(-1)
    write_json(record.directory / SOURCE, asdict(source))
    for name in COPIED:
        path = known.directory / name
        if path.is_file():
            write_text(record.directory / name, path.read_text(encoding="utf-8"))
    record.close(Verdict(kind="completed", step=0))


def forget_source(record: Record) -> None:
    """Remove what says that a record has its results from another one, because it is measured now."""
    (record.directory / SOURCE).unlink(missing_ok=True)
