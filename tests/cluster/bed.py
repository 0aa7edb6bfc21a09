"""A bed of hosts on one machine: namespaces, a bridge, sshd, an unprivileged user, and a directory that they share.

Nothing reaches the network of this machine: the bridge has no port to it. All processes are children of one process
with its own process namespace, and all files are in its own mount namespace, so that both end with it. It is killed
with the bed, and by the kernel when the tests die.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import ray
from bed_host import HOME, SHARED, UID, USER, Host

ROOT = Path(__file__).parents[2]
NETWORK = "198.51.100"  # of RFC 5737
ADDRESSES = {"head": f"{NETWORK}.10", "w1": f"{NETWORK}.11", "w2": f"{NETWORK}.12", "desk": f"{NETWORK}.5",
             "outsider": f"{NETWORK}.99"}  # fmt: skip
NODES = ("head", "w1", "w2")
DESK_CHECKOUT = f"{HOME}/src/footprint"  # another path than on the nodes, so that nobody takes one for the other
TOOLS = ("ip", "sshd", "ssh", "ssh-keygen", "rsync", "unshare", "nsenter", "setpriv", "git")
PACKAGES = "apt-get install openssh-server rsync iproute2 git"
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
SECONDS = 300.0


def missing() -> str:
    """Return what the bed lacks on this machine, empty if nothing."""
    if os.geteuid() != 0:
        return "root, or user namespaces and newuidmap (apt-get install uidmap)"
    return ", ".join(tool for tool in TOOLS if shutil.which(tool, path=f"{os.environ['PATH']}:{PATH}") is None)


def checked(*words: str | Path) -> None:
    """Run a command of this machine."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"


def environment() -> Path:
    """Return the environment that has Ray, which is not always the one that runs the tests."""
    return Path(ray.__file__).parents[4]


@dataclass
class Bed:
    """Running hosts, by the process id of their process 1, and where their files are seen from this machine."""

    switch: subprocess.Popen[bytes]
    pid: int
    directory: Path
    hosts: dict[str, int] = field(default_factory=dict)

    # ------------------------------------------------------------ hosts
    def boot(self, name: str) -> None:
        """Start a host with an empty disk and connect it to the bridge."""
        host = Host(
            name=name, disk=f"{self.directory}/{name}", bed=str(self.directory), environment=str(environment()),
            place=f"{DESK_CHECKOUT if name not in NODES else f'{HOME}/footprint'}/.venv",
            python_home=sys.base_prefix, hidden=(str(environment().parent), str(ROOT)),
            accepts_key=name in NODES, has_key=name == "desk",
        )  # fmt: skip
        unshared = ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        program = [sys.executable, str(Path(__file__).with_name("bed_host.py")), host.json()]
        process = subprocess.Popen(self._in_switch(*unshared, *program), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, text=True, start_new_session=True)  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", f"{name} does not boot"
        self.hosts[name] = self._first_process(process.pid)
        self._connect(name)

    def root(self, host: str, *words: str, timeout: float = SECONDS) -> str:
        """Run a command on a host as root; returns its output."""
        done = subprocess.run([*self._on(host), *words], env={"PATH": PATH}, capture_output=True, text=True,
                              timeout=timeout, check=False)  # fmt: skip
        assert done.returncode == 0, f"{host}: {words}: {done.stdout}{done.stderr}"
        return done.stdout

    def begin(self, host: str, command: str) -> subprocess.Popen[str]:
        """Start a line of shell as the user of a host, in a login shell; its two outputs are one pipe."""
        user = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "bash", "-lc"]
        given = {"HOME": HOME, "USER": USER, "LANG": "C.UTF-8", "TERM": "xterm", "PATH": PATH}
        where = DESK_CHECKOUT if host == "desk" else HOME
        return subprocess.Popen(
            [*self._on(host), *user, f"cd {where}; {command}"], env=given, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def user(self, host: str, command: str, code: int = 0, timeout: float = SECONDS) -> str:
        """Run a line of shell as the user of a host; returns its two outputs.

        Raises:
            AssertionError: it ends with another exit code, or not in time.
        """
        process = self.begin(host, command)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            raise AssertionError(f"{host}: `{command}` takes more than {timeout:.0f} s:\n{output[-6000:]}") from None
        assert process.returncode == code, f"{host}: `{command}` ends with {process.returncode}:\n{output[-6000:]}"
        return output

    def file(self, host: str, path: str) -> Path:
        """Return where this machine sees a file of a host."""
        return Path(f"/proc/{self.hosts[host]}/root{path}")

    def shared(self, path: str = "") -> Path:
        """Return where this machine sees a file of the shared directory, whatever the hosts see."""
        return Path(f"/proc/{self.pid}/root{self.directory}/shared{path.removeprefix(SHARED)}")

    def processes(self, host: str, part: str = "") -> list[psutil.Process]:
        """Return the user's processes on a host whose command line has a part."""
        found = []
        for process in psutil.process_iter(["cmdline", "uids"]):
            try:
                inside = os.stat(f"/proc/{process.pid}/ns/pid") == os.stat(f"/proc/{self.hosts[host]}/ns/pid")
            except OSError:  # it has just ended
                continue
            if inside and process.info["uids"].real == UID and part in " ".join(process.info["cmdline"] or ()):
                found.append(process)
        return found

    # ------------------------------------------------------------ faults
    def cut(self, host: str) -> None:
        """Take the network of a host away; it keeps the shared directory."""
        self._ip("link", "set", f"p-{host}", "down")

    def mend(self, host: str) -> None:
        """Give it back."""
        self._ip("link", "set", f"p-{host}", "up")

    def take_storage(self, host: str) -> None:
        """Take the shared directory of a host away, for whatever opens a file from now on; it keeps the network."""
        self.root(host, "mount", "-t", "tmpfs", "-o", "mode=755,ro", "tmpfs", SHARED)

    def return_storage(self, host: str) -> None:
        """Give it back."""
        self.root(host, "umount", "--lazy", SHARED)

    # ------------------------------------------------------------ parts
    def _in_switch(self, *words: str) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "--", *words]

    def _on(self, host: str) -> list[str]:
        return ["nsenter", "-t", str(self.hosts[host]), "-m", "-p", "-u", "-i", "-n", "--"]

    def _ip(self, *words: str) -> None:
        checked("nsenter", "-t", str(self.pid), "-n", "--", "ip", *words)

    def _connect(self, name: str) -> None:
        self._ip("link", "add", f"p-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(self.hosts[name]))
        self._ip("link", "set", f"p-{name}", "master", "br0", "up")
        for words in (("link", "set", "lo", "up"), ("addr", "add", f"{ADDRESSES[name]}/24", "dev", "eth0"),
                      ("link", "set", "eth0", "up"),
                      # it leads nowhere: by a default route, Ray finds the address of its node
                      ("route", "add", "default", "via", f"{NETWORK}.1")):  # fmt: skip
            checked("nsenter", "-t", str(self.hosts[name]), "-n", "--", "ip", *words)

    def _first_process(self, parent: int) -> int:
        """Return the id, as this machine sees it, of the process 1 that a started `unshare` has made."""
        for child in psutil.Process(parent).children(recursive=True):
            line = next(one for one in Path(f"/proc/{child.pid}/status").read_text().splitlines() if "NSpid" in one)
            if line.split()[-1] == "1":
                return child.pid
        raise AssertionError("unshare has started nothing")


@contextmanager
def bed(directory: Path) -> Iterator[Bed]:
    """Boot all hosts; at the end, or when the tests die, nothing is left of them, and `directory` is empty again."""
    sleep = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child",
             "--mount-proc", "sleep", "infinity"]  # fmt: skip
    switch = subprocess.Popen(sleep, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        made = Bed(switch, _child(switch.pid), directory)
        checked(*made._in_switch("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(directory)))
        _prepare(made)
        made._ip("link", "add", "br0", "type", "bridge")
        made._ip("link", "set", "br0", "up")
        for name in ADDRESSES:
            made.boot(name)
        yield made
    finally:
        for child in psutil.Process(switch.pid).children():
            child.kill()  # its namespace's process 1, so everything in the bed ends with it
        switch.wait(30)


def _child(pid: int) -> int:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for child in psutil.Process(pid).children():
            if child.name() == "sleep":
                return child.pid
        time.sleep(0.02)
    raise AssertionError("the bed's first process does not start")


def _unreadable(directory: str, names: list[str]) -> list[str]:
    """Name the files of a directory that only this machine's root can read, which a bed without root does without."""
    places = {name: Path(directory, name) for name in names}
    return [name for name, place in places.items() if not place.is_symlink() and not os.access(place, os.R_OK)]


def _prepare(made: Bed) -> None:
    """Make the keys, the shared directory, and an /etc with the user and the names of the hosts."""
    seen = Path(f"/proc/{made.pid}/root{made.directory}")
    (seen / "keys").mkdir(mode=0o700)
    (seen / "shared").mkdir()
    (seen / "shared").chmod(0o1777)
    for key in ("footprint", "host"):
        checked("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", seen / "keys" / key)
    etc = seen / "etc"
    shutil.copytree("/etc", etc, symlinks=True, ignore_dangling_symlinks=True, ignore=_unreadable)
    # `*`: no password, but not locked, because sshd refuses the keys of a locked user
    entries: Mapping[str, str] = {"passwd": f"{USER}:x:{UID}:{UID}::{HOME}:/bin/bash", "group": f"{USER}:x:{UID}:",
                                  "shadow": f"{USER}:*:20000:0:99999:7:::"}  # fmt: skip
    for name, entry in entries.items():
        lines = (etc / name).read_text().splitlines() if (etc / name).exists() else []
        others = [one for one in lines if one.split(":")[0] != USER and str(UID) not in one.split(":")[2:3]]
        (etc / name).write_text("\n".join([*others, entry]) + "\n")
    hosts = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in ADDRESSES.items())]
    (etc / "hosts").write_text("\n".join(hosts) + "\n")
    (etc / "resolv.conf").unlink(missing_ok=True)
    (etc / "resolv.conf").write_text("")  # nothing waits for a name server
