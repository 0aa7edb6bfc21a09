"""Lets a base on a CPU use the weights in its files instead of copies, for a process that is rarely used.

The files are mapped into memory privately: pages are read when they are used, and the system drops them when memory is
short. A weight that is stored in another dtype than the base computes in is converted for each use of its module.
Quantized weights stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from trainables.model.families import TOWERS
from trainables.model.stored_base import HEAD, embedding_of, read_base

if TYPE_CHECKING:
    from trainables.model.base import Base
    from trainables.model.weight_files import FileEntry


def map_weights(base: Base) -> int:
    """Let the floating-point weights of linears, embedding and head use the files of the base; return their number.

    Norms, biases and what lies outside the towers stay copies: other modules read their dtype. A weight that a family
    loads otherwise than it is stored stays a copy too.
    """
    stored = read_base(base.path)
    mapped: dict[int, torch.Tensor] = {}  # by the id of a parameter, since head and embedding may share one
    for module, name in _owners(base):
        parameter, weight = module.weight, stored.weights.get(name)
        if weight is not None and id(parameter) not in mapped and parameter.is_floating_point():
            tensor = _from_file(weight.entry)
            if tensor.shape == parameter.shape and torch.equal(tensor.to(parameter.dtype), parameter):
                mapped[id(parameter)] = tensor
        tensor = mapped.get(id(parameter))  # a tied head has no entry of its own
        if tensor is not None and tensor.dtype != parameter.dtype:
            _convert_for_each_use(module, tensor, parameter.dtype)
    for parameter in base.model.parameters():
        if id(parameter) in mapped:
            parameter.data = mapped[id(parameter)]
    return len(mapped)


def _owners(base: Base) -> list[tuple[Any, str]]:
    """Return modules that own a large weight, with the weight's name in the model; the embedding before the head."""
    names = [embedding_of(base.family), HEAD]
    names += [f"{linear.name}.weight" for tower in TOWERS for block in base.towers[tower] for linear in block]
    return [(base.model.get_submodule(name.removesuffix(".weight")), name) for name in names]


def _from_file(entry: FileEntry) -> torch.Tensor:
    from safetensors import safe_open

    with safe_open(str(entry.file), framework="pt") as opened:
        return opened.get_tensor(entry.name)  # a view of the file, which stays mapped as long as the tensor lives


def _convert_for_each_use(module: Any, stored: torch.Tensor, dtype: torch.dtype) -> None:
    def before(own: Any, _: Any) -> None:
        own.weight.data = stored.to(dtype)

    def after(own: Any, _: Any, __: Any) -> None:
        own.weight.data = stored

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after, always_call=True)
