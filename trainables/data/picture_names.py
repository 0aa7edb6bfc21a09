"""Reads the names of pictures: a path, a `file:` address, or an object with one of them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from trainables.errors import UserError, named, quoted

NAME_KEYS = ("path", "url")


def picture_names(value: Any, where: str) -> tuple[str, ...]:
    """Return the pictures of a row: of a name, or of a list of names; none for a missing or empty value.

    Raises:
        UserError: a value is no name of a file; names `where`.
    """
    if value in (None, "", []):
        return ()
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str | dict) for name in names):
        raise UserError(f"{where} must be a list of paths, but got {quoted(value)}")
    return tuple(picture_name(name, where) for name in names)


def picture_name(value: Any, where: str) -> str:
    """Return the file that a text, or an object with `path` or `url`, names.

    Raises:
        UserError: the value is no name of a file, or holds the picture itself; names `where`.
    """
    if isinstance(value, str):
        return _local(value, where)
    given = {key: one for key, one in value.items() if one is not None} if isinstance(value, dict) else {}
    if given.get("detail") == "auto":  # OpenAI's default; the others ask for another size
        del given["detail"]
    if "bytes" in given:
        raise UserError(f"{where}: a picture must be a file, but got its bytes", "save it as a file and give its path")
    if len(given) != 1 or not given.keys() <= set(NAME_KEYS) or not isinstance(next(iter(given.values())), str):
        raise UserError(
            f"{where} must name a file, but got {quoted(value)}", 'write "picture.png" or {"path": "picture.png"}'
        )
    return _local(next(iter(given.values())), where)


def _local(name: str, where: str) -> str:
    try:
        url = urlsplit(name)
    except ValueError as error:  # invalid brackets in the host name
        raise UserError(f"{where}: a picture must be a file, but got `{named(name)}`", str(error)) from None
    scheme = url.scheme if ":" in name else ""
    if scheme == "file":
        return url2pathname(url.path)
    if scheme == "data":
        raise UserError(f"{where}: a picture must be a file, but got data ({named(name[:30])}...)",
                        "save it as a file and give its path")  # fmt: skip
    if "://" in name:
        raise UserError(f"{where}: a picture must be a file, but got `{named(name)}`",
                        "download it and give its path; nothing is downloaded while trials run")  # fmt: skip
    return name
