"""A separate process that loads a saved adapter with plain PEFT and compares its logits with the live adapter's.

It reads a `BaseToLoad` from standard input, loads the base once, and then answers every `Comparison` with a `Compared`,
each one line of JSON. It shares no memory with the process that trains. On a CPU it uses the weights in the base's
files in place of copies; before each comparison the files must still be those that the trial was planned with.
"""

from __future__ import annotations

import json
import os
import select
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from trainables.io.requests import read_request
from trainables.preloaded.process import Running, started
from trainables.spec import ComputeDtype, Quantization
from trainables.typed import typed

if TYPE_CHECKING:
    import torch

    from trainables.data.encoding import Batch
    from trainables.model.base import Base
    from trainables.model.lora import Adapter
    from trainables.selftest.judge import Reloaded
    from trainables.spec import TrialSpec


ANSWER_SECONDS = 600.0  # includes loading a large base from a slow disk
MODULE = "trainables.selftest.reload"


@dataclass(frozen=True)
class BaseToLoad:
    """The base that the process loads, and its number of threads."""

    base: str
    quantization: Quantization
    compute_dtype: ComputeDtype
    device: str
    threads: int = 1


@dataclass(frozen=True)
class Comparison:
    """A request to load the adapter in a directory and compare its logits with those in the batch file."""

    adapter: str
    batch: str


@dataclass(frozen=True)
class Compared:
    """The largest difference of logits and the largest effect of the adapter, or the reason of a failure."""

    difference: float = 0.0
    effect: float = 0.0
    failure: str | None = None


class Reloader:
    """Runs one child process per base; starts it at the first comparison, and again if it has ended."""

    def __init__(self, spec: TrialSpec, device: str) -> None:
        self.spec = spec
        self.loads = BaseToLoad(str(spec.base.path), spec.quantization, spec.compute_dtype, device)
        self._process: Running | None = None
        self._log: IO[str] | None = None

    def compare(self, adapter: Adapter, batch: Batch, live: torch.Tensor, off: torch.Tensor) -> Reloaded:
        """Save the adapter, load it in the child process, and compare logits (supervised tokens, vocabulary).

        Raises:
            RuntimeError: the child process was killed or does not answer, so the adapter could not be checked.
            SourceChanged: the files of the base are no longer those that the trial was planned with.
        """
        from safetensors.torch import save_file

        from trainables.selftest.judge import Reloaded
        from trainables.source_check import check_base

        check_base(self.spec)
        with tempfile.TemporaryDirectory(prefix="footprint-reload-") as name:
            directory = Path(name)
            adapter.save(directory)
            tensors = {f"inputs.{key}": value for key, value in batch.inputs.items()}
            tensors |= {"labels": batch.labels, "live": live, "off": off}
            batch_file = str(directory / "batch.safetensors")
            save_file({key: value.cpu().contiguous() for key, value in tensors.items()}, batch_file)
            answer = self._ask(Comparison(str(directory), batch_file))
        process = self._process.pid if self._process else 0
        if self.loads.device != "cpu":
            self.close()  # on a GPU its copy of the base takes memory that training needs
        return Reloaded(answer.difference, answer.effect, process, answer.failure)

    def close(self) -> None:
        """End the child process; it also ends when this process does."""
        if self._process is not None:
            assert self._process.stdin and self._process.stdout and self._log
            self._process.terminate()
            self._process.wait()
            with suppress(BrokenPipeError):  # the child did not read the last line
                self._process.stdin.close()
            self._process.stdout.close()
            self._log.close()
            self._process = None

    def _ask(self, comparison: Comparison) -> Compared:
        process = self._started()
        assert process.stdin and process.stdout and self._log
        with suppress(BrokenPipeError):  # the child ended while loading the base; its log has the reason
            process.stdin.write(_line(comparison))
            process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], ANSWER_SECONDS)
        line = process.stdout.readline() if ready else ""
        if line:
            return Compared(**json.loads(line))
        code = process.wait() if ready else None
        self._log.seek(0)
        log_lines = [text for text in self._log.read().splitlines() if text.strip()]
        self.close()
        if code is None or code < 0:
            raise RuntimeError(f"the process that checks saved adapters ended with {code}: {log_lines[-1:]}")
        return Compared(failure=log_lines[-1] if log_lines else f"exit code {code}")

    def _started(self) -> Running:
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            import torch

            self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 lives as long as the process
            # in a session of its own: Ctrl-C asks the trials to checkpoint; this process ends with its parent
            self._process = started(MODULE, self._log)
            assert self._process.stdin
            self._process.stdin.write(_line(replace(self.loads, threads=torch.get_num_threads())))
        return self._process


def serve(first: dict[str, Any], requests: IO[str], answers: IO[str]) -> None:
    """Load the base of the first request, then answer every line of the following ones."""
    import torch

    from trainables.model.base import load_base
    from trainables.selftest.mapped_base import map_weights

    loads = BaseToLoad(**first)
    torch.set_num_threads(loads.threads)
    base = load_base(Path(loads.base), loads.quantization, loads.compute_dtype, torch.device(loads.device))
    if loads.device == "cpu":
        map_weights(base)
    for line in iter(requests.readline, ""):
        answers.write(_line(_compared(base, Comparison(**json.loads(line)))))
        answers.flush()


def _line(value: BaseToLoad | Comparison | Compared) -> str:
    return json.dumps(asdict(value)) + "\n"


def _compared(base: Base, comparison: Comparison) -> Compared:
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file

    from trainables.data.encoding import Batch
    from trainables.evaluation.evaluator import label_logits

    tensors = {key: value.to(base.device) for key, value in load_file(comparison.batch).items()}
    inputs = {key.removeprefix("inputs."): value for key, value in tensors.items() if key.startswith("inputs.")}
    loaded = PeftModel.from_pretrained(base.model, comparison.adapter)
    try:
        with torch.no_grad():
            logits, _ = label_logits(base, Batch(inputs, tensors["labels"]))
    finally:
        loaded.unload()
    difference = (logits - tensors["live"]).abs().max()
    effect = (tensors["live"] - tensors["off"]).abs().max()
    # JSON has no NaN; a comparison without a number counts as a very large difference
    return Compared(float(difference.nan_to_num(3e38, 3e38)), float(effect))


def main() -> None:
    """Read the base to load from standard input, and answer comparisons on standard output."""
    base_to_load = read_request(MODULE, f"`{typed('verify', 'DIR')}`", sys.argv[1:], sys.stdin)
    # libraries print to standard output; the parent must read only answers
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(base_to_load, sys.stdin, channel)


if __name__ == "__main__":
    main()
