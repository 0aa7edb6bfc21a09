"""A PostgreSQL server of the test's own, on a Unix socket in its directory and on no network."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

DATABASE = "mlflow"
HINT = "no PostgreSQL server is installed; Debian and Ubuntu: apt install postgresql"


def programs() -> Path | None:
    """Return the directory that has `postgres`, the newest version of Debian's package first; None without one."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[4]))
    found = versions[-1] if versions else shutil.which("postgres")
    return Path(found).parent if found else None


@contextmanager
def running(directory: Path, binaries: Path) -> Iterator[str]:
    """Yield the SQLAlchemy address of an empty database, in a server that ends with the block.

    `postgres` refuses to run as root, so root hands it to `nobody`.
    """
    user = "nobody" if os.getuid() == 0 else None
    if user:
        os.chown(directory, pwd.getpwnam(user).pw_uid, -1)

    def do(program: str, *words: str) -> None:
        subprocess.run([binaries / program, *words], user=user, check=True, capture_output=True, cwd=directory)

    data = directory / "data"
    do("initdb", "--pgdata", str(data), "--username", DATABASE, "--auth", "trust", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={directory} -c fsync=off"
    do("pg_ctl", "start", "--pgdata", str(data), "--wait", "--log", str(directory / "log"), "--options", options)
    try:
        do("createdb", "--host", str(directory), "--username", DATABASE, DATABASE)
        yield f"postgresql+psycopg2://{DATABASE}@/{DATABASE}?host={quote(str(directory), safe='')}"
    finally:
        do("pg_ctl", "stop", "--pgdata", str(data), "--wait", "--mode", "immediate")
