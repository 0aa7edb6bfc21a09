"""Takes a cluster down: `ray down`, and what it leaves behind on machines of your own.

python -m sweeps.down cluster.yaml

With provider `local`, `ray down` stops Ray on the head alone; the workers keep their agents, and the head keeps MLflow.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from trainables.command import run
from trainables.errors import ExitCode, InfrastructureError, UserError
from trainables.io.strict_yaml import read_yaml
from trainables.typed import typed

SECONDS = 90.0  # for one machine
STOP_MLFLOW = "~/footprint/clusters/mlflow-server.sh stop"
# `ray stop` looks for its processes by name; the brackets keep `pgrep` from finding the shell that runs this line
STOP_RAY = (
    "~/footprint/.venv/bin/ray stop --force >/dev/null 2>&1; "
    "for _ in 1 2 3 4 5 6 7 8 9 10; do "
    'pgrep -u "$(id -u)" -f "[s]ite-packages/ray/" >/dev/null || exit 0; sleep 1; done; '
    'echo "processes of Ray remain"; exit 1'
)
HELP = (
    "Take a cluster down and stop what `ray down` leaves on its machines.\n\n"
    "Exit codes: 0 nothing is left · 2 the file is no cluster · 6 a machine could not be reached, which is named."
)


@dataclass(frozen=True)
class Machines:
    """The machines of a cluster of provider `local`, and the words before the address that reach one by SSH."""

    ssh: tuple[str, ...]
    user: str
    head: str
    workers: tuple[str, ...]


def machines_of(path: Path) -> Machines | None:
    """Return the machines that a cluster file names; None for a cloud, where `ray down` ends the machines themselves.

    Raises:
        UserError: the file is no cluster of Ray.
    """
    values = read_yaml(path).values
    provider, auth = values.get("provider"), values.get("auth")
    if not isinstance(provider, Mapping) or "type" not in provider:
        raise UserError(f"{path}: `provider` must have a `type`, but it has none", "name a file such as cluster.yaml")
    if provider["type"] != "local":
        return None
    workers = provider.get("worker_ips") or []
    if not isinstance(auth, Mapping) or "ssh_user" not in auth or "head_ip" not in provider:
        raise UserError(f"{path}: a cluster of machines of your own must have `provider.head_ip` and `auth.ssh_user`")
    words = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new", "-o", "ConnectTimeout=10"]
    if key := auth.get("ssh_private_key"):
        words += ["-i", str(Path(key).expanduser()), "-o", "IdentitiesOnly=yes"]
    if proxy := auth.get("ssh_proxy_command"):
        words += ["-o", f"ProxyCommand={proxy}"]
    return Machines(tuple(words), str(auth["ssh_user"]), str(provider["head_ip"]), tuple(map(str, workers)))


def on_machine(machines: Machines, address: str, command: str) -> str | None:
    """Run a command on one machine; return why it failed, None if it did not."""
    words = [*machines.ssh, f"{machines.user}@{address}", command]
    try:
        done = subprocess.run(  # noqa: S603 the words are those of the user's own cluster file
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except FileNotFoundError:
        return "there is no `ssh` on this machine"
    except subprocess.TimeoutExpired:
        return f"no answer within {SECONDS:.0f} s"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {done.returncode}"


def on_all(machines: Machines, addresses: Sequence[str], command: str) -> dict[str, str]:
    """Run a command on several machines at once; return why it failed, by address."""
    with ThreadPoolExecutor(max_workers=max(1, min(32, len(addresses)))) as pool:
        reasons = pool.map(lambda address: on_machine(machines, address, command), addresses)
        return {address: reason for address, reason in zip(addresses, reasons, strict=True) if reason}


def take_down(path: Path) -> int:
    """Take the cluster of a file down, and return how many machines of one's own were stopped.

    Raises:
        UserError: the file is no cluster.
        InfrastructureError: `ray down` failed, or a machine could not be reached; all others are stopped.
    """
    machines = machines_of(path)
    failed = on_all(machines, [machines.head], STOP_MLFLOW) if machines else {}
    ray = [sys.executable, "-m", "ray.scripts.scripts", "down", "--yes", str(path)]
    down = subprocess.run(ray, check=False).returncode  # noqa: S603
    if machines:
        failed |= on_all(machines, machines.workers, STOP_RAY)
    problems = [f"{address}: {reason}" for address, reason in failed.items()]
    if problems or down:
        problems += [f"`ray down` ended with exit code {down}"] * bool(down)
        raise InfrastructureError(
            f"every machine must answer to be stopped, but {'; '.join(problems)}",
            f"when they answer: {typed('down', str(path))}",
        )
    return 1 + len(machines.workers) if machines else 0


app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


@app.command(help=HELP)
def down(cluster: Annotated[Path, typer.Argument(help="The file that `ray up` took.")]) -> None:
    """Take the cluster down and say on how many machines."""
    count = take_down(cluster)
    typer.echo(f"stopped on {count} machines" if count else "`ray down` ended the machines")
    raise typer.Exit(ExitCode.DONE)


def main() -> None:
    """Run the command line."""
    run(app)


if __name__ == "__main__":
    main()
