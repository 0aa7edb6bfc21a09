"""Sets up the user's machine of the bed: a checkout, its environment, and a `cluster.yaml` that is filled in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from bed import ADDRESSES, DESK_CHECKOUT, NODES, ROOT, Bed
from bed_host import HOME, UID, USER


def set_up_desk(bed: Bed) -> None:
    """Copy the checkout as it is here, with what is not committed, and install it as the Makefile does."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    checkout = bed.file("desk", DESK_CHECKOUT)
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, checkout / name)
    (checkout / "cluster.yaml").write_text(filled_in((ROOT / "cluster.yaml").read_text()))
    give(checkout)
    bed.user("desk", ".venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .")
    # what `. .venv/bin/activate` does for whoever types the commands of cluster.yaml's first lines
    profile = bed.file("desk", f"{HOME}/.profile")
    profile.write_text(profile.read_text() + f"PATH={DESK_CHECKOUT}/.venv/bin:$PATH\n")


def filled_in(text: str) -> str:
    """Return `cluster.yaml` with the addresses of the bed.

    Raises:
        AssertionError: another line than those marked CHANGE would have to change.
    """
    workers = "".join(f"    - {ADDRESSES[name]}\n" for name in NODES if name != "head")
    filled, heads = re.subn(r"(  head_ip: )\S+( +# CHANGE.*\n)", rf"\g<1>{ADDRESSES['head']}\g<2>", text)
    filled, lists = re.subn(r"(  worker_ips: +# CHANGE.*\n)(    - .*\n)+", rf"\g<1>{workers}", filled)
    assert heads == lists == 1
    # the user and the key of the bed are those that the file has already
    assert all(re.search(rf"^  {key}: {value} +# CHANGE", text, re.MULTILINE)
               for key, value in (("ssh_user", USER), ("ssh_private_key", "~/.ssh/footprint")))  # fmt: skip
    return filled


def give(top: Path) -> None:
    """Make the user the owner of a tree, but for what is mounted below it."""
    for directory, below, files in os.walk(top):
        below[:] = [name for name in below if name != ".venv"]
        for path in (directory, *(os.path.join(directory, name) for name in files)):
            os.chown(path, UID, UID, follow_symlinks=False)
