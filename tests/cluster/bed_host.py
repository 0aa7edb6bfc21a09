"""Process 1 of a host of the bed: gives it a disk, a user, an environment and sshd, then reaps what it inherits.

`bed.py` starts it in namespaces of its own; its only argument is a `Host` as JSON. It prints `ready`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

USER, UID = "ubuntu", 1000
HOME = f"/home/{USER}"
SHARED = "/mnt/shared"
PRIVATE = ("home", "root", "tmp", "mnt")  # top directories that every host has of its own
SSHD = "/usr/sbin/sshd"


@dataclass(frozen=True)
class Host:
    """What a host is made of.

    Args:
        name: its name.
        disk: the directory with all that it writes.
        bed: the directory of what all hosts share: `etc`, `shared` and the keys.
        environment: the environment to put at `place`, below the user's home.
        place: see above.
        python_home: the installation of Python that made the environment.
        hidden: directories of this machine that a host must not see.
        accepts_key: whether its user can be reached with the key of the cluster.
        has_key: whether its user has that key.
    """

    name: str
    disk: str
    bed: str
    environment: str
    place: str
    python_home: str
    hidden: tuple[str, ...]
    accepts_key: bool
    has_key: bool

    def json(self) -> str:
        """Return the argument of this program."""
        return json.dumps(asdict(self))


def ran(*words: str | Path) -> None:
    subprocess.run([str(word) for word in words], check=True)


def directory(path: Path, mode: int = 0o755, owner: int = 0) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    os.chown(path, owner, owner)
    return path


def owned(path: Path, mode: int) -> None:
    path.chmod(mode)
    os.chown(path, UID, UID)


def fill_disk(host: Host) -> None:
    """Make the user's home, and the directories of the host's own."""
    disk = Path(host.disk)
    for top in PRIVATE:
        directory(disk / top, 0o1777 if top == "tmp" else 0o755)
    home = directory(disk / "home" / USER, 0o755, UID)
    for name in (".bashrc", ".profile"):
        shutil.copy(f"/etc/skel/{name}", home / name)
        owned(home / name, 0o644)
    ssh, keys = directory(home / ".ssh", 0o700, UID), Path(host.bed) / "keys"
    if host.accepts_key:
        shutil.copy(keys / "footprint.pub", ssh / "authorized_keys")
        owned(ssh / "authorized_keys", 0o600)
    if host.has_key:
        shutil.copy(keys / "footprint", ssh / "footprint")
        owned(ssh / "footprint", 0o600)


def extended_attributes() -> str:
    """Return the option of overlay in a user namespace, where it must keep its marks in attributes of the user."""
    is_whole = Path("/proc/self/uid_map").read_text(encoding="ascii").split() == ["0", "0", str(2**32 - 1)]
    return "" if is_whole else ",userxattr"


def mount_environment(host: Host) -> None:
    """Put the environment below the user's home; the user can change it, and no other host sees the change."""
    disk, place = Path(host.disk), Path(host.place)
    own = disk / "home" / place.relative_to("/home")
    for path in (own, *own.parents):
        if path == disk / "home" / USER:
            break
        directory(path, 0o755, UID)
    upper, work = directory(disk / "upper", owner=UID), directory(disk / "work")
    layers = f"lowerdir={host.environment},upperdir={upper},workdir={work}"
    ran("mount", "-t", "overlay", "overlay", "-o", layers + extended_attributes(), own)
    # pip replaces files, for which it must own the directories
    ran("find", own, "-type", "d", "-exec", "chown", "-h", f"{UID}:{UID}", "{}", "+")
    was, becomes = host.environment.encode(), host.place.encode()
    for script in [*(own / "bin").iterdir(), own / "pyvenv.cfg"]:
        if script.is_file() and not script.is_symlink() and b"\0" not in (text := script.read_bytes()):  # a script
            script.write_bytes(text.replace(was, becomes))
            os.chown(script, UID, UID)


def mount_all(host: Host) -> None:
    """Replace this machine's directories by those of the host; Python and the environment stay in sight."""
    disk, bed = Path(host.disk), Path(host.bed)
    mount_environment(host)
    for top in PRIVATE:
        if host.python_home.startswith(f"/{top}/"):
            kept = disk / host.python_home.removeprefix("/")
            kept.mkdir(parents=True)
            ran("mount", "--bind", host.python_home, kept)
    shared = directory(disk / SHARED.removeprefix("/"))
    ran("mount", "--bind", bed / "shared", shared)
    ran("mount", "--bind", bed / "etc", "/etc")
    ran("mount", "-t", "tmpfs", "-o", "mode=1777,size=1500m", "tmpfs", "/dev/shm")  # noqa: S108
    ran("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    ran("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/usr/local/bin")
    # no link: by a link, `venv` would look for the library in /usr/local
    python = Path("/usr/local/bin/python3")
    python.write_text(f'#!/bin/sh\nexec {host.python_home}/bin/python3 "$@"\n')
    python.chmod(0o755)
    directory(Path("/run/sshd"))
    shutil.copy(bed / "keys/host", "/run/sshd/host_key")
    for hidden in host.hidden:
        if not hidden.startswith(tuple(f"/{top}/" for top in PRIVATE)):
            ran("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", hidden)
    for top in sorted(PRIVATE, key="tmp".__eq__):  # /tmp last: the disk itself can lie below it
        ran("mount", "--rbind", disk / top, f"/{top}")
    os.chdir("/")


def start_sshd() -> None:
    """Start sshd, which answers as soon as the host has a network."""
    options = ("HostKey=/run/sshd/host_key", "PidFile=/run/sshd/pid", "PasswordAuthentication=no", "UsePAM=no",
               "PermitRootLogin=no", "MaxStartups=100", "MaxSessions=100")  # fmt: skip
    path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    with open("/run/sshd/log", "w", encoding="utf-8") as log:
        subprocess.Popen([SSHD, "-D", "-e", "-f", "/dev/null", *(word for one in options for word in ("-o", one))],
                         env={"PATH": path}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # fmt: skip


def main() -> None:
    """Boot the host and reap its orphans until it is killed."""
    host = Host(**json.loads(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal of the tests, which end the host themselves
    socket.sethostname(host.name)
    fill_disk(host)
    mount_all(host)
    start_sshd()
    print("ready", flush=True)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.pause()


if __name__ == "__main__":
    main()
