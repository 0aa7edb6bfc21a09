"""Makes the token by which Ray's processes know each other, so that only this user can read it.

Ray makes `~/.ray/auth_token` itself where it is missing, but readable for everybody.
"""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from pathlib import Path

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
OWNER_ONLY = stat.S_IRUSR | stat.S_IWUSR
BYTES = 32  # as many as Ray's own tokens have


def token_file() -> Path:
    """Return the file from which Ray reads the token."""
    return Path(os.environ.get(TOKEN_PATH) or os.path.expanduser("~/.ray/auth_token"))


def protect_token(makes_missing: bool) -> None:
    """Let only this user read the token; with `makes_missing`, make one where Ray would make one."""
    path = token_file()
    if makes_missing and _ray_would_make_one() and not path.exists():
        _make(path)
    _tighten(path)


def _ray_would_make_one() -> bool:
    given = any(os.environ.get(name) for name in (TOKEN, TOKEN_PATH))
    return not given and os.environ.get(MODE, "token").lower() == "token"


def _make(path: Path) -> None:
    path.parent.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".auth_token-")  # only its owner can read it
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)  # whole, and never over the token of another launch
        except FileExistsError:
            return
    finally:
        os.unlink(name)


def _tighten(path: Path) -> None:
    if path.is_file() and path.stat().st_uid == os.getuid():
        path.chmod(OWNER_ONLY)
