"""Paths that are more than one project's own: a system, a home, a disk, the files of accounts, private keys.

All are read as written in a command: nothing is looked up and no variable is expanded, braces alone are written out.
"""

from __future__ import annotations

import re

SYSTEM = r"(?:bin|boot|dev|etc|home|lib\d*|media|mnt|opt|proc|root|run|sbin|srv|sys|usr|var|Users|System|Library)"
HOME = r"(?:~\w*|\$HOME|\$\{HOME\}|/root|/home/\w+|/Users/\w+)"
ALL_BELOW = r"(?:/(?:\*|\.\*?)?)*"
# of a path whose slashes are single; no part may match in two ways, a model can repeat one sign a thousand times
EVERYTHING = re.compile(rf"(?:/\.?|/\*|/{SYSTEM}|{HOME}){ALL_BELOW}")
WHOLE_HOME = re.compile(rf"(?!/root){HOME}{ALL_BELOW}")
HERE = re.compile(r"(?:\.\.?/)*(?:\.\.?|\*|\.\*|\.\[\^\.\]\*)?")
WORKING = re.compile(rf"(?:\$\(pwd\)|`pwd`|\$PWD|\$\{{PWD\}}){ALL_BELOW}")
UNSET = re.compile(r"\$(?:\w+|\{\w+\})/\*?|\$(?:\w+|\{\w+\})\*")
# what packages and services own: nothing below can be rebuilt from a project
VITAL = re.compile(
    r"/(?:s?bin|boot|lib(?:\d*|x32)|var/lib)(?:/.*)?"
    r"|/etc(?:/[^/]*(?:/\*?)?)?"  # one package's settings as a whole; a file or a site among them is one's own
    r"|/usr(?:/(?!local(?:/|$)|src/).*)?|/usr/local(?:/(?:bin|etc|include|lib|libexec|sbin|share|\*)?(?:/\*?)?)?"
)
REBUILT = re.compile(r"/(?:apt/lists|[^/]*[cC]ache[^/]*|te?mp|workspaces?)(?:/|$)")
DEVICE = re.compile(r"/dev/(?:[shv]d[a-z]|xvd|nvme|mmcblk|disk|mapper|md\d|loop|dm-|sd\*|r?disk\d|mem|kmem|port)")
ACCOUNTS = re.compile(r"/etc/(?:passwd|shadow|gshadow|group|sudoers(?:\.d/.*)?|fstab)")
KEYS = re.compile(r"(?:.*/)?\.(?:ssh|gnupg)(?:/|/\*)?|(?:.*/)?\.ssh/(?:id_(?!\S*\.pub)\S*|identity)")
BRACES = re.compile(r"(?<!\$)\{([^{},]*(?:,[^{},]*)+)\}")
MAX_WRITTEN_OUT = 64  # paths of one word; more than that is no path that anybody types


def written_out(word: str) -> list[str]:
    """Write out the braces of a word as bash does, single slashes in it: `/{etc,usr}` is `/etc` and `/usr`."""
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
    """Tell whether a path means a machine, a home, all files of a directory, or that much if a variable is empty."""
    return any(
        EVERYTHING.fullmatch(path)
        or UNSET.fullmatch(path)
        or (also_here and path and (HERE.fullmatch(path) or WORKING.fullmatch(path)))
        for path in written_out(target)
    )


def is_vital(target: str) -> bool:
    """Tell whether a path lies in a directory of the system that only packages and services write to."""
    return any(VITAL.fullmatch(path) and not REBUILT.search(path) for path in written_out(target))


def is_home(target: str) -> bool:
    """Tell whether a path means the whole home of somebody; that of root is the system's."""
    return any(WHOLE_HOME.fullmatch(path) for path in written_out(target))
