"""Whether the rows of a study can be packed, where a trial asks for it; rows with pictures cannot."""

from __future__ import annotations

from collections.abc import Sequence

from trainables.errors import UserError
from trainables.scan import Scan
from trainables.spec import TrialSpec


def check_packable(specs: Sequence[TrialSpec], scan: Scan) -> None:
    """Refuse packed trials on training rows with pictures: a trial would end where it meets the first of them.

    Raises:
        UserError: naming the trials and the rows.
    """
    packed = [spec.name for spec in specs if spec.packed_tokens and not spec.placement.is_baseline]
    shown = [row.row_id for row in scan.train if row.pictures]
    if packed and shown:
        raise UserError(
            f"packed_tokens packs rows of text, but {len(shown):,} of {len(scan.train):,} training rows show a "
            f"picture, the first is `{shown[0]}`; it is set for {', '.join(packed[:4])}{', ...' * (len(packed) > 4)}",
            "set packed_tokens to 0, or train on rows without pictures",
        )
