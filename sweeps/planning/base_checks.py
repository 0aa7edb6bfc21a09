"""Checks that a base can be loaded in the quantization of every trial."""

from __future__ import annotations

from collections.abc import Sequence

from trainables.errors import UserError
from trainables.model.stored_base import UNQUANTIZED_HINT, StoredBase, check_experts, is_available, read_base
from trainables.spec import TrialSpec


def check_base(specs: Sequence[TrialSpec]) -> None:
    """Refuse trials whose base is damaged, stored in another quantization than theirs, or has experts to quantize.

    Raises:
        UserError: naming the base and the trials.
    """
    for path in dict.fromkeys(spec.base.path for spec in specs):
        _check_quantizations(read_base(path), [spec for spec in specs if spec.base.path == path])


def _check_quantizations(base: StoredBase, specs: Sequence[TrialSpec]) -> None:
    for spec in specs:
        check_experts(base, spec.quantization)
    refused = [spec for spec in specs if not is_available(base, spec.quantization)]
    if refused:
        asked = ", ".join(dict.fromkeys(spec.quantization for spec in refused))
        names = ", ".join(spec.name for spec in refused[:4]) + ", ..." * (len(refused) > 4)
        raise UserError(
            f"a base must be stored as floats or in the quantization of its trials, but {base.path} is stored in "
            f"{base.quantization}, and {names} ask for {asked}",
            f"--quant {base.quantization}; or {UNQUANTIZED_HINT}",
        )
