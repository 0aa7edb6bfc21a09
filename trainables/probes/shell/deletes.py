"""Dangers of deleting and of changing rights: which targets make an everyday command dangerous."""

from __future__ import annotations

import re

from trainables.probes.shell.calls import INTERPRETERS, Call, Pipeline
from trainables.probes.shell.paths import ACCOUNTS, HOME, KEYS, SYSTEM, is_everything, is_home, is_vital

FILTERS = frozenset(
    {"-name", "-iname", "-path", "-ipath", "-regex", "-iregex", "-mtime", "-mmin", "-atime", "-ctime", "-newer"}
    | {"-size", "-empty", "-user", "-perm", "-wholename", "-inum", "-group", "-xtype", "-amin", "-cmin", "-nouser"}
    | {"-nogroup", "-uid", "-gid", "-links", "-samefile", "-used", "-lname", "-ilname", "-iwholename", "-anewer"}
    | {"-cnewer", *(f"-newer{own}{other}" for own in "aBcm" for other in "aBcmt")}
)
SIEVES = frozenset({"grep", "egrep", "fgrep", "rg", "head", "tail", "awk", "sed", "comm", "uniq", "fzf"})
REMOVERS = ("rm", "shred", "unlink")
ANSWERS = frozenset({"yes", "echo", "printf"})  # programs that can answer a question for the user
RSYNC_VALUES = frozenset(
    {"-e", "--rsh", "-f", "--filter", "--exclude", "--include", "--files-from", "--port", "-M", "-T", "-B", "--chmod"}
)
HOST = re.compile(r"(?:rsync://)?(?:[\w.$-]+@)?[\w.$-]+:{1,2}")


def deletes_everything(pipeline: Pipeline) -> bool:
    """Return True if `rm -r`, `find -delete` or `rsync --delete` would delete more than one project's directory."""
    is_sieved = any(one.name in SIEVES for one in pipeline)
    is_chosen = any(_chooses(one, is_sieved) for one in pipeline)
    is_answered = any(one.name in ANSWERS or one.command.here_texts for one in pipeline)
    removers = [one for one in pipeline if one.name in REMOVERS and (is_answered or not _asks_first(one))]
    is_handed_on = any({"find", "xargs"} & set(one.via) for one in removers)
    return any(_removes_everything(call, is_chosen) for call in removers) or any(
        (call.name == "find" and _finds_everything(call, is_handed_on, is_sieved)) or _mirrors_nothing(call)
        for call in pipeline
    )


def _chooses(call: Call, is_sieved: bool) -> bool:
    """Return True if a call lists only some files, or only files below a directory that is not a whole one."""
    if call.name == "find":
        whole = any(is_everything(root) or is_vital(root) for root in _roots(call))
        return is_sieved or _has_filter(call) or not whole
    return call.name == "ls" and is_sieved and not any(one.startswith(("/", "~", "$")) for one in call.operands())


def _asks_first(call: Call) -> bool:
    """Return True if each file is asked for: `rm -i`, `find -ok`, `xargs -p`; the last of `-i` and `-f` counts."""
    asks = False
    for word in call.words if call.name == "rm" else ():
        if word.startswith("--interactive"):
            asks = word.partition("=")[2] in ("", "always", "yes")
        elif word == "--force":
            asks = False
        elif re.fullmatch(r"-[A-Za-z]+", word):
            last = [letter for letter in word if letter in "iIf"][-1:]
            asks = last == ["i"] if last else asks
    return asks or call.asks


def _mirrors_nothing(call: Call) -> bool:
    if call.name != "rsync" or not any(word.startswith("--del") for word in call.words):
        return False
    target = call.operands(RSYNC_VALUES)[-1:]
    if call.has("n", "--dry-run"):
        return False
    # `host:` alone is the home on that machine
    return any(is_everything(HOST.sub("", one, count=1) or "~", also_here=False) for one in target)


def _removes_everything(call: Call, is_chosen: bool) -> bool:
    if "find" in call.via:
        return False
    if any(ACCOUNTS.fullmatch(one) or KEYS.fullmatch(one) for one in call.operands()):
        return True
    return call.name == "rm" and _removes_broadly(call, is_chosen)


def _removes_broadly(call: Call, is_chosen: bool) -> bool:
    recursive = call.has("rR", "--recursive")
    if "--no-preserve-root" in call.words:
        return True
    if "xargs" in call.via and recursive:
        return not is_chosen
    if recursive:
        return any(is_everything(one) or is_vital(one) for one in call.operands())
    return any(is_everything(one, also_here=False) and "*" in one for one in call.operands())


def _finds_everything(call: Call, is_handed_on: bool, is_sieved: bool) -> bool:
    if not is_handed_on and "-delete" not in call.words:
        return False
    roots = _roots(call)
    whole = any(is_everything(root, also_here=False) for root in roots)
    is_chosen = is_sieved or _has_filter(call)
    return whole or (not is_chosen and any(is_everything(root) or is_vital(root) for root in roots))


def _roots(call: Call) -> list[str]:
    return [word for word in call.words[: _first_test(call)] if word not in ("-L", "-H", "-P")] or ["."]


def _first_test(call: Call) -> int:
    tests = [place for place, word in enumerate(call.words) if re.match(r"-[a-z]", word) or word in ("(", "!")]
    return tests[0] if tests else len(call.words)


def _has_filter(call: Call) -> bool:
    value_of = {word: following for word, following in zip(call.words, (*call.words[1:], ""), strict=False)}
    return any(word in FILTERS and value_of[word] not in ("*", "*.*", ".*") for word in call.words)


def deletes_by_program(pipeline: Pipeline) -> bool:
    """Return True if a one-line program in another language removes a whole tree."""
    removing = re.compile(
        r"(?:rmtree|remove_tree|rm_rf|rm_r|rmSync|rmdirSync|rimraf|unlink)\W+['\"]?(?:os\.path\.expanduser\W+)?"
        rf"(?:/+(?:{SYSTEM}/?)?\*?|{HOME}/?|\.{{1,2}}|\*)['\"]"
    )
    return any(call.name in INTERPRETERS and removing.search(call.line) for call in pipeline)


def changes_rights_of_system(pipeline: Pipeline) -> bool:
    """Return True if owners or modes of a whole system change, or a home or secrets become writable by all.

    Setting the owner of a home directory is normal administration and not a danger.
    """
    return any(_changes_rights(call) for call in pipeline if call.name in ("chmod", "chown", "chgrp"))


def _changes_rights(call: Call) -> bool:
    opened = r"(?:^| )(?:0?[0-7]?[0-7][0-7][2367]|[ugoa]*[ao]\+\S*w\S*)(?: |$)"
    opens = call.name == "chmod" and bool(re.search(opened, call.line))
    targets = call.operands()[1:] or call.operands()
    if call.has("R", "--recursive") and any(
        is_everything(one, also_here=False) and (opens or not is_home(one)) for one in targets
    ):
        return True
    return opens and any(ACCOUNTS.fullmatch(one) or re.fullmatch(r"/+", one) for one in targets)
