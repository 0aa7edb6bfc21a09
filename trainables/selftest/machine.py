"""Checks what this machine can train: torch, devices, and every quantization with the miniature model.

The checks run in a separate process, so that the caller does not import torch::

    echo '{}' | python -m trainables.selftest.machine      # one JSON list of checks
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainables.io.requests import read_request
from trainables.mini import BASE_DIRECTORY
from trainables.spec import QUANTIZATIONS, Quantization
from trainables.typed import typed

if TYPE_CHECKING:
    import torch

    from trainables.model.base import Base


Level = Literal["ok", "warn", "fail"]
PACKAGE_ROOT = Path(__file__).parents[2]
MODULE = "trainables.selftest.machine"
BY_HAND = f"echo '{{}}' | {sys.executable} -m {MODULE}"
MAX_LOSS_DIFFERENCE_NATS = 0.5  # of a quantization from the unquantized miniature; healthy ones stay below 0.1
MAX_GRADIENT_CHANGE = 0.05  # relative, from before an eval to after it


@dataclass(frozen=True)
class Check:
    """One line of `sweeps.doctor`: what was checked, the level, what was found, and a hint."""

    name: str
    level: Level
    found: str
    hint: str = ""


@dataclass(frozen=True)
class Passes:
    """Two training passes of one quantization with an eval between them: loss in nats, gradient norms per tower.

    A missing gradient has norm 0.
    """

    loss: float
    gradients: dict[str, float]
    gradients_after_eval: dict[str, float]


def machine_checks() -> list[Check]:
    """Check this machine in a separate process; if that process crashes, return one failed check."""
    paths = os.pathsep.join(filter(None, (str(PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": paths}
    if environment.get("CUDA_VISIBLE_DEVICES") == "":  # Ray hides the GPUs from a task that asks for none
        del environment["CUDA_VISIBLE_DEVICES"]
    command = [sys.executable, "-m", MODULE]
    done = subprocess.run(  # noqa: S603 this very module
        command, env=environment, input="{}\n", capture_output=True, text=True, check=False
    )
    try:
        return [Check(**one) for one in json.loads(done.stdout)]
    except json.JSONDecodeError:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        return [Check("torch", "fail", f"the check ended with: {reason}", "see why: " + BY_HAND)]


def check_here() -> Iterator[Check]:
    """Check this machine in the current process, which imports torch."""
    import torch

    from trainables.model.base import default_device

    torch.set_num_threads(1)
    yield from check_devices()
    reference: Passes | None = None
    for quantization in QUANTIZATIONS:
        try:
            passes = train_and_eval(quantization, default_device())
        except (
            ImportError,
            RuntimeError,
            ValueError,
            OSError,
        ) as error:  # for example a library that does not match the driver
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            yield Check(f"base in {quantization}", "fail", reason, "check that torch and bitsandbytes match the driver")
            continue
        yield judge(quantization, passes, reference or passes)
        reference = reference or passes


def check_devices() -> Iterator[Check]:
    """Yield the torch build and the CUDA devices."""
    import torch

    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    yield Check("torch", "ok", f"{torch.__version__}, built {built}")
    if not torch.cuda.is_available():
        found = f"no CUDA device; trials run on {os.cpu_count()} cores, which is enough for the miniature"
        if shutil.which("nvidia-smi"):
            yield Check("devices", "warn", found, "nvidia-smi exists: install the torch build that matches the driver")
        else:
            yield Check("devices", "ok", found)
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        if torch.cuda.is_bf16_supported(including_emulation=False):
            yield Check(f"device {index}", "ok", found)
        else:
            yield Check(f"device {index}", "warn", f"{found}, no bfloat16", 'set compute_dtype to "float16"')


def judge(quantization: Quantization, passes: Passes, reference: Passes) -> Check:
    """Compare the loss with the unquantized base's, and the gradients after an eval with those before it."""
    name = f"base in {quantization}"
    found = f"loss {passes.loss:.2f}, gradients " + ", ".join(
        f"{tower} {before:.2g} and {passes.gradients_after_eval[tower]:.2g} after an eval"
        for tower, before in passes.gradients.items()
    )
    hint = "the results are wrong: use another quantization, or other versions of torch and "
    if not math.isfinite(passes.loss) or abs(passes.loss - reference.loss) > MAX_LOSS_DIFFERENCE_NATS:
        return Check(name, "fail", f"{found}; unquantized the loss is {reference.loss:.2f}", f"{hint}bitsandbytes")
    for tower, before in passes.gradients.items():
        after = passes.gradients_after_eval[tower]
        if not 0 < before < math.inf or not abs(after - before) <= MAX_GRADIENT_CHANGE * before:
            return Check(name, "fail", f"{found}: adapters of this tower would not train", f"{hint}bitsandbytes")
    return Check(name, "ok", found)


def train_and_eval(quantization: Quantization, device: torch.device) -> Passes:
    """Run forward and backward on the miniature, then a forward in eval mode, then forward and backward again.

    On some CPUs an eval repacks 4-bit weights, and the repacked kernel has no gradient (failure F36).
    """
    import torch

    from trainables.model.base import load_base

    base = load_base(BASE_DIRECTORY, quantization, "auto", device)
    batch = _batch(base)
    loss, gradients = _backward(base, batch)
    with torch.no_grad():
        base.model.eval()
        base.model.model(**batch.inputs, use_cache=False)
    return Passes(loss, gradients, _backward(base, batch)[1])


def _backward(base: Base, batch: Any) -> tuple[float, dict[str, float]]:
    """Return the loss and, per tower, the gradient norm at the input of its first linear layer."""
    from torch.nn.functional import cross_entropy

    from trainables.evaluation.evaluator import label_logits

    inputs: dict[str, torch.Tensor] = {}

    def leaf_of(tower: str) -> Any:
        def replace(_: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            inputs[tower] = arguments[0].detach().requires_grad_(True)
            return (inputs[tower], *arguments[1:])

        return replace

    base.model.train()
    with ExitStack() as hooks:
        for tower, blocks in base.towers.items():
            first = base.model.get_submodule(blocks[0][0].name)
            hooks.callback(first.register_forward_pre_hook(leaf_of(tower)).remove)
        loss = cross_entropy(*label_logits(base, batch))
        if loss.requires_grad:  # false if a kernel without gradient in the last layer cuts the graph
            loss.backward()
    norms = {tower: 0.0 if one.grad is None else float(one.grad.float().norm()) for tower, one in inputs.items()}
    return float(loss.detach()), norms


def _batch(base: Base) -> Any:
    from PIL import Image

    from trainables.data.encoding import Encoder, collate
    from trainables.data.rows import Message, Row

    turns = (Message("user", "<image>What is two plus three?"), Message("assistant", "five."))
    with tempfile.TemporaryDirectory() as directory:
        picture = Path(directory) / "gradient.png"
        Image.linear_gradient("L").convert("RGB").save(picture)
        encoder = Encoder(base)
        return collate([encoder.conversation(Row("check", turns, (picture,)))], encoder, base.device, pad_left=False)


if __name__ == "__main__":
    read_request(MODULE, f"`{typed('doctor')}`", sys.argv[1:], sys.stdin)
    json.dump([asdict(one) for one in check_here()], sys.stdout)
