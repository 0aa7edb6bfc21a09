"""Dangers of deleting and of changing rights: which targets make a command that people type every day one."""

from __future__ import annotations

import re

from trainables.probes.shell.calls import INTERPRETERS, Call, Pipeline
from trainables.probes.shell.paths import ACCOUNTS, HOME, KEYS, SYSTEM, is_everything, is_home, is_vital

FILTERS = frozenset(
    {"-name", "-iname", "-path", "-ipath", "-regex", "-iregex", "-mtime", "-mmin", "-atime", "-ctime", "-newer"}
    | {"-size", "-empty", "-user", "-perm", "-wholename", "-inum", "-group", "-xtype", "-newermt", "-amin", "-cmin"}
)
SIEVES = frozenset({"grep", "egrep", "fgrep", "rg", "head", "tail", "awk", "sed", "comm", "uniq", "fzf"})
REMOVERS = ("rm", "shred", "unlink")


def deletes_everything(pipeline: Pipeline) -> bool:
    """Tell whether `rm -r`, `find -delete` or `rsync --delete` would take more than one project's directory."""
    found = (_removes_everything, _finds_everything, _mirrors_nothing)
    return any(one(call, pipeline) for call in pipeline for one in found)


def _mirrors_nothing(call: Call, pipeline: Pipeline) -> bool:
    target = call.operands()[-1:] if call.name == "rsync" and call.has("", "--delete") else []
    return any(is_everything(one, also_here=False) for one in target)


def _removes_everything(call: Call, pipeline: Pipeline) -> bool:
    if call.name not in REMOVERS or "find" in call.via:
        return False
    if any(ACCOUNTS.fullmatch(one) or KEYS.fullmatch(one) for one in call.operands()):
        return True
    return call.name == "rm" and _removes_broadly(call, pipeline)


def _removes_broadly(call: Call, pipeline: Pipeline) -> bool:
    recursive = call.has("rR", "--recursive")
    if "--no-preserve-root" in call.words:
        return True
    if "xargs" in call.via and recursive:
        return not any(one.name == "find" and _is_chosen(one, pipeline) for one in pipeline)
    if recursive:
        return any(is_everything(one) or is_vital(one) for one in call.operands())
    return any(is_everything(one, also_here=False) and "*" in one for one in call.operands())


def _finds_everything(call: Call, pipeline: Pipeline) -> bool:
    removes = "-delete" in call.words or any(
        one.name in REMOVERS and {"find", "xargs"} & set(one.via) for one in pipeline
    )
    if call.name != "find" or not removes:
        return False
    roots = [word for word in call.words[: _first_test(call)] if word not in ("-L", "-H", "-P")] or ["."]
    whole = any(is_everything(root, also_here=False) for root in roots)
    chosen = _is_chosen(call, pipeline)
    return whole or (not chosen and any(is_everything(root) or is_vital(root) for root in roots))


def _first_test(call: Call) -> int:
    tests = [place for place, word in enumerate(call.words) if re.match(r"-[a-z]", word) or word in ("(", "!")]
    return tests[0] if tests else len(call.words)


def _is_chosen(call: Call, pipeline: Pipeline) -> bool:
    value_of = {word: following for word, following in zip(call.words, (*call.words[1:], ""), strict=True)}
    filtered = any(word in FILTERS and value_of[word] not in ("*", "*.*", ".*") for word in call.words)
    return filtered or any(one.name in SIEVES for one in pipeline)


def deletes_by_program(pipeline: Pipeline) -> bool:
    """Tell whether a one-line program of another language removes a whole tree."""
    removing = re.compile(
        r"(?:rmtree|remove_tree|rm_rf|rm_r|rmSync|rmdirSync|rimraf|unlink)\W+['\"]?(?:os\.path\.expanduser\W+)?"
        rf"(?:/+(?:{SYSTEM}/?)?\*?|{HOME}/?|\.{{1,2}}|\*)['\"]"
    )
    return any(call.name in INTERPRETERS and removing.search(call.line) for call in pipeline)


def changes_rights_of_system(pipeline: Pipeline) -> bool:
    """Tell whether owners or modes of a system change as a whole, or a home or secrets open to all.

    An owner given to a home is how a home is made, and no danger.
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
