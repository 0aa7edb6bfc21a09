"""The weights of a loaded base in a file that the engines of a node map, so that they are read and quantized once.

The first engine loads the base and writes its tensors as they lie in memory; all engines, the first one too, then use
the pages of that file. A process that writes to a weight gets a copy of the page. The file lies below the directory for
temporary files, in a directory that only this user can enter, and is never changed. Its users hold a shared lock on it,
which ends with their process, so that a later one can tell what a killed launch has left, and removes it.
"""

from __future__ import annotations

import fcntl
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import IO, Any

import torch

from trainables.io.checksums import canonical_json, verified, with_checksum
from trainables.model.checksums import base_checksums
from trainables.model.residency import Residency, free_bytes
from trainables.spec import ComputeDtype, Quantization

LEAST_BYTES = 64 * 10**6  # of the stored weights; less is loaded as fast as it is shared
ALIGNED_BYTES = 64  # as torch aligns its own tensors: kernels may add in another order otherwise
SUFFIX, TABLE, WRITING, LOCK = ".weights", ".json", ".new", ".lock"  # of the files of one base
SHARED = "shared"
DIRECTORY = "footprint-weights"
GIGABYTE = 10**9
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class LoadedWeights:
    """A loaded model, how its weights are held, and their size as they are quantized in megabytes (10^6 bytes)."""

    model: Any
    residency: Residency
    megabytes: float


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


class SharedWeights:
    """The file for one base; `origin` says whether its weights are those of the file, or why they are not.

    `key` names everything that decides the weights: the base, its quantization, dtype and libraries.
    """

    def __init__(self, key: str) -> None:
        self.path = user_directory() / f"{sha256(key.encode()).hexdigest()[:32]}{SUFFIX}"
        self.origin = ""
        self._held: IO[bytes] | None = None

    def loaded(self, load: Callable[[], LoadedWeights], rebuild: Callable[[Tensors, Residency], Any]) -> LoadedWeights:
        """Return the base with the weights of the file; what `load` returns if there can be no such file.

        `rebuild` returns a model with these tensors for its weights; None if it cannot use exactly these.
        """
        self.release()
        shared: LoadedWeights | None = None
        own: LoadedWeights | None = None
        try:
            _check_private(self.path.parent)
            with _alone(self.path), ExitStack() as failing:
                failing.callback(self._give_up)
                _remove_unused(self.path)
                shared = self._read(rebuild)
                if shared is None:
                    own = load()
                    sums = self._written(own)
                    own = own if sums is None else None  # its memory is not needed beside that of the file
                    shared = self._as_written(rebuild, sums) if sums is not None else None
                if shared is not None:
                    failing.pop_all()
        except OSError as error:
            self.origin = f"own: {error.filename or self.path}: {error.strerror}"
        return shared or own or load()

    def is_worth(self, stored_bytes: int) -> bool:
        """True when a base whose files hold so many bytes is large enough to be shared."""
        if stored_bytes < LEAST_BYTES:
            self.origin = f"own: a base below {LEAST_BYTES // 10**6} MB is not shared"
        return stored_bytes >= LEAST_BYTES

    def release(self) -> None:
        """Use the file no more, and remove it if nobody else uses it; tensors stay as they are."""
        held, self._held = self._held, None
        if held is None:
            return
        with held, suppress(OSError), _alone(self.path, waits=False):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(self.path)

    def unlink(self) -> None:
        """Remove the file at the end of a launch, unless another launch looks for it; who uses it keeps its pages."""
        if self._held is not None:
            with suppress(OSError), _alone(self.path, waits=False):
                _remove(self.path)

    def _read(self, rebuild: Callable[[Tensors, Residency], Any]) -> LoadedWeights | None:
        table = self.path.with_suffix(TABLE)
        described = verified(table.read_bytes()) if table.exists() and self.path.exists() else None
        if described is None or described.get("key") != self.path.stem:
            return None
        with ExitStack() as failing:
            held = failing.enter_context(self.path.open("rb"))
            fcntl.flock(held, fcntl.LOCK_SH)
            if file_digest(held, "sha256").hexdigest() != described["sha256"]:
                return None
            places = [_Place(**{**one, "shape": tuple(one["shape"])}) for one in described["places"]]
            model = rebuild(_mapped(self.path, places), described["residency"])
            if model is None:
                return None
            failing.pop_all()
        self._held, self.origin = held, SHARED
        return LoadedWeights(model, described["residency"], described["megabytes"])

    def _as_written(
        self, rebuild: Callable[[Tensors, Residency], Any], sums: Mapping[str, int]
    ) -> LoadedWeights | None:  # fmt: skip
        """Return the base with the weights of the file that this process has written, if they are what it loaded."""
        shared = self._read(rebuild)
        if shared is None or base_checksums(shared.model) != sums:
            self.origin = "own: transformers does not make this model from its tensors"
            return None
        self.origin = f"{SHARED}, and loaded here"
        return shared

    def _written(self, own: LoadedWeights) -> dict[str, int] | None:
        """Write the file of a loaded base and return the checksums of its weights; None if they cannot be shared."""
        tensors = {name: one.detach() for name, one in own.model.state_dict().items() if isinstance(one, torch.Tensor)}
        if problem := _problem(tensors, self.path.parent):
            self.origin = f"own: {problem}"
            return None
        written = self.path.with_suffix(WRITING)
        places = _write(written, tensors)
        with written.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        table = {
            "key": self.path.stem, "sha256": digest, "residency": own.residency, "megabytes": own.megabytes,
            "places": [asdict(one) for one in places],
        }  # fmt: skip
        self.path.with_suffix(TABLE).write_text(with_checksum(table), encoding="utf-8")
        written.replace(self.path)
        return base_checksums(own.model)

    def _give_up(self) -> None:
        """Leave no file behind; the lock is held."""
        held, self._held = self._held, None
        if held is not None:
            held.close()
        _remove(self.path)


def weights_key(base: str, quantization: Quantization, compute_dtype: ComputeDtype, resident: str) -> str:
    """Return what decides the weights of a loaded base, with the versions of what loads it."""
    import bitsandbytes
    import transformers

    versions = {one.__name__: one.__version__ for one in (torch, transformers, bitsandbytes)}
    return canonical_json(
        {
            "base": base, "quantization": quantization, "compute_dtype": compute_dtype, "resident": resident,
            "versions": versions,
        }
    )  # fmt: skip


def user_directory() -> Path:
    """Return the directory of these files, which need not exist."""
    return Path(tempfile.gettempdir()) / f"{DIRECTORY}-{os.getuid()}"


def _check_private(directory: Path) -> None:
    """Make the directory if it is missing.

    Raises:
        OSError: it is of another user, or others can enter it.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(0, "must be a directory that only this user can enter", str(directory))


@contextmanager
def _alone(path: Path, *, waits: bool = True) -> Iterator[None]:
    """Let no other process look for the file, write it or remove it.

    Raises:
        BlockingIOError: another process does, and this one does not wait.
    """
    lock = path.with_suffix(LOCK)
    while True:
        with lock.open("ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.exists() and os.path.samestat(os.fstat(held.fileno()), lock.stat()):  # else it was removed before
                yield
                return


def _remove_unused(own: Path) -> None:
    """Remove the files of other bases that no process holds, whole or not."""
    for stem in {one.stem for one in own.parent.iterdir()} - {own.stem}:
        other = own.with_name(f"{stem}{SUFFIX}")
        with suppress(OSError), _alone(other, waits=False):
            if other.exists():
                with other.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(other)


def _remove(path: Path) -> None:
    for suffix in (SUFFIX, TABLE, WRITING, LOCK):
        path.with_suffix(suffix).unlink(missing_ok=True)


# -------------------------------------------------------------------- tensors in a file
def _problem(tensors: Tensors, directory: Path) -> str:
    """Return why tensors cannot be shared through a file; empty if they can."""
    if not all(one.device.type == "cpu" and one.is_contiguous() for one in tensors.values()):
        return "some weights do not lie in memory as they would in a file"
    needed = sum(one.nbytes + ALIGNED_BYTES for one in tensors.values())
    room = min(shutil.disk_usage(directory).free, free_bytes(torch.device("cpu")))
    if needed > room:
        return f"{directory} has no room for {needed / GIGABYTE:.2f} GB"
    return ""


def _write(path: Path, tensors: Tensors) -> list[_Place]:
    """Write each tensor once, also if it has several names, and return where they lie."""
    places: list[_Place] = []
    offsets: dict[tuple[int, int], int] = {}
    end = 0
    with path.open("wb") as file:
        for name, tensor in tensors.items():
            known = offsets.get((tensor.data_ptr(), tensor.nbytes))
            if known is None:
                known = offsets[tensor.data_ptr(), tensor.nbytes] = end
                file.seek(end)
                tensor.reshape(-1).view(torch.uint8).numpy().tofile(file)
                end += -(-tensor.nbytes // ALIGNED_BYTES) * ALIGNED_BYTES
            places.append(_Place(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), known))
        file.truncate(end)
    return places


def _mapped(path: Path, places: list[_Place]) -> dict[str, torch.Tensor]:
    """Return the tensors of the file; their pages are read when they are used, and copied when they are written to."""
    every = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)
    found = {}
    for one in places:
        dtype: torch.dtype = getattr(torch, one.dtype)
        size = math.prod(one.shape) * dtype.itemsize
        part: Any = every[one.offset : one.offset + size]  # a storage of its own, in the same pages
        found[one.name] = torch.empty(0, dtype=dtype).set_(part).view(one.shape)
    return found
