"""Puts the text of each picture in its place in a conversation, in families that write more than one token for it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest

from trainables.data.formats import IMAGE_TAG
from trainables.errors import UserError


def placed(rendered: str, placeholder: str, pictures: Sequence[str], where: str) -> str:
    """Return a rendered conversation with `pictures`, in order, in place of what the template writes for each.

    Raises:
        UserError: the template does not write one placeholder for every picture.
    """
    pieces = rendered.split(placeholder)
    if len(pieces) - 1 != len(pictures):
        raise image_mismatch(where, placeholder, len(pieces) - 1, len(pictures))
    return "".join(chain.from_iterable(zip_longest(pieces, pictures, fillvalue="")))


def image_mismatch(where: str, token: str, found: int, pictures: int) -> UserError:
    """Return the error for a text that does not have one `token` for every picture."""
    return UserError(
        f"{where}: every image must have one image token, but got {found} image tokens for {pictures} images",
        f"a text must not contain `{token}`; write `{IMAGE_TAG}` in place of each image",
    )
