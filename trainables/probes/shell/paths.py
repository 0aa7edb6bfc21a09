"""Classifies paths outside one project: system directories, homes, disks, account files, private keys.

Paths are classified as written: nothing is looked up on disk and no variable is expanded; only braces are.
"""

from __future__ import annotations

import re

SYSTEM = r"(?:bin|boot|dev|etc|home|lib\d*|media|mnt|opt|proc|root|run|sbin|srv|sys|usr|var|Users|System|Library)"
HOME = r"(?:~\w*|\$HOME|\$\{HOME\}|/root|/home/\w+|/Users/\w+)"
ALL_BELOW = r"(?:/(?:\*|\.\*?)?)*"
# for paths with single slashes; no part can match in two ways, so that repeated characters cannot cause backtracking
EVERYTHING = re.compile(rf"(?:/\.?|/\*|/{SYSTEM}|{HOME}){ALL_BELOW}")
WHOLE_HOME = re.compile(rf"(?!/root){HOME}{ALL_BELOW}")
HERE = re.compile(r"(?:\.\.?/)*(?:\.\.?|\*|\.\*|\.\[\^\.\]\*|!\([^()]*\))?")
WORKING = re.compile(rf"(?:\$\(pwd\)|`pwd`|\$PWD|\$\{{PWD\}}){ALL_BELOW}")
UNSET = re.compile(r"\$(?:\w+|\{\w+\})/\*?|\$(?:\w+|\{\w+\})\*")
# owned by packages and services: a project cannot rebuild anything below
VITAL = re.compile(
    r"/(?:s?bin|boot|lib(?:\d*|x32)|var/lib)(?:/.*)?"
    r"|/etc(?:/[^/]*(?:/\*?)?)?"  # all settings of one package; a single file below is the user's own
    r"|/usr(?:/(?!local(?:/|$)|src/).*)?|/usr/local(?:/(?:bin|etc|include|lib|libexec|sbin|share|\*)?(?:/\*?)?)?"
)
REBUILT = re.compile(r"/(?:apt/lists|[^/]*[cC]ache[^/]*|te?mp|workspaces?)(?:/|$)")
DEVICE = re.compile(
    r"/dev/(?:[shv]d[a-zA-Z]|xvd|nvme|mmcblk|disk|mapper|md\d|loop|dm-|sd\*|r?disk\d|mem|kmem|port|a?da\d|nvd\d|dasd|pmem"
    r"|mtd|ubi\d|nbd\d|rbd\d|bcache\d|zvol|cciss|vg|\w*(?:drive|device)\b)"
)
ACCOUNTS = re.compile(r"/etc/(?:passwd|shadow|gshadow|group|sudoers(?:\.d/.*)?|fstab)")
KEYS = re.compile(r"(?:.*/)?\.(?:ssh|gnupg)(?:/|/\*)?|(?:.*/)?\.ssh/(?:id_(?!\S*\.pub)\S*|identity)")
BRACES = re.compile(r"(?<!\$)\{([^{},]*(?:,[^{},]*)+)\}")
MAX_WRITTEN_OUT = 64  # paths per word; keeps nested braces from growing exponentially


def expand_braces(word: str) -> list[str]:
    """Expand braces as bash does and collapse repeated slashes: `/{etc,usr}` gives `/etc` and `/usr`."""
    waiting, finished = [re.sub("/+", "/", word)], []
    while waiting and len(waiting) + len(finished) <= MAX_WRITTEN_OUT:
        one = waiting.pop()
        braces = BRACES.search(one)
        if braces:
            choices = braces[1].split(",")[:MAX_WRITTEN_OUT]
            waiting += [re.sub("/+", "/", one[: braces.start()] + choice + one[braces.end() :]) for choice in choices]
        else:
            finished.append(one)
    return finished


def is_everything(target: str, also_here: bool = True) -> bool:
    """Return True if a path is a whole machine, home or directory, or becomes one when a variable is empty."""
    return any(
        EVERYTHING.fullmatch(path)
        or UNSET.fullmatch(path)
        or (also_here and path and (HERE.fullmatch(path) or WORKING.fullmatch(path)))
        for path in expand_braces(target)
    )


def is_vital(target: str) -> bool:
    """Return True if a path lies in a system directory that only packages and services write to."""
    return any(VITAL.fullmatch(path) and not REBUILT.search(path) for path in expand_braces(target))


def is_home(target: str) -> bool:
    """Return True if a path is the whole home of a user other than root, whose home counts as system."""
    return any(WHOLE_HOME.fullmatch(path) for path in expand_braces(target))
