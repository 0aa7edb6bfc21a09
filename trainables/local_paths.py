"""Refuses URLs where a path of a file system is meant.

Records need a rename that replaces a directory at once, and file locks. Object stores have neither, so a URL is refused
before `pathlib` makes a relative directory `s3:` of it.
"""

from __future__ import annotations

import re
from pathlib import Path

from trainables.errors import UserError

URL = re.compile(r"([A-Za-z][A-Za-z0-9+-]+):/")  # `pathlib` reduces `s3://bucket` to `s3:/bucket`
HINT = (
    "copy what it holds to a directory and name that; several machines need one on a file system that they share, "
    "such as NFSv4 or Lustre"
)


def local_path(given: str | Path, what: str) -> Path:
    """Return `given`, which `what` names in messages, as a path; it may be several paths joined by commas.

    Raises:
        UserError: it is a URL, such as `s3://bucket/runs` or `file:///mnt/runs`.
    """
    for part in str(given).split(","):
        if found := URL.match(part.strip()):
            scheme = found[1].lower()
            raise UserError(
                f"{what} must be a path, but it is a URL that begins with `{scheme}:`",
                f"leave out `{scheme}://` and name the path alone" if scheme == "file" else HINT,
            )
    return Path(given)
