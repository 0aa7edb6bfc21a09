"""Runs `clusters/mlflow-server.sh` as on a cluster's head: with a home directory and a port of the test's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "clusters" / "mlflow-server.sh"


@contextmanager
def environment_of_head(home: Path) -> Iterator[dict[str, str]]:
    """Yield the environment of a head with an empty home directory and a free port; ends what is left."""
    home.mkdir(exist_ok=True)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    try:
        yield {**kept, "HOME": str(home), "PATH": path, "MLFLOW_PORT": str(port)}
    finally:
        subprocess.run([SCRIPT, "stop"], env={**os.environ, "HOME": str(home)}, check=False)


def script(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run the script in an environment."""
    return subprocess.run([SCRIPT, *words], env=environment, text=True, capture_output=True, check=False)
