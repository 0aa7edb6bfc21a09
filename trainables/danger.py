"""The dangers of shell text: a list of patterns, each with its reason, that a user can extend by a YAML file.

What counts: a command that destroys data beyond one project's directory, hands a machine or its secrets to others, or
stops it. What does not: whatever one's own working tree can be rebuilt from (`rm -rf build`, `git reset --hard`), a
reboot, a package removal. Words that only stand in quotes as data (`grep -r "rm -rf /" docs`, `echo 'rm -rf /'`) do
nothing and are no danger; piped to a shell they are. `git push --force` is one, for it overwrites what others hold;
`--force-with-lease` is not. `docker system prune` is one with `--volumes`, for images can be fetched again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from trainables.calls import INTERPRETERS, Call, Pipeline, pipelines

SYSTEM = r"(?:bin|boot|dev|etc|home|lib\d*|media|mnt|opt|proc|root|run|sbin|srv|sys|usr|var|Users|System|Library)"
HOME = r"(?:~\w*|\$HOME|\$\{HOME\}|/root|/home/\w+|/Users/\w+)"
# of a path whose slashes are single; no part may match in two ways, a model can repeat one sign a thousand times
EVERYTHING = re.compile(rf"(?:/\.?|/{SYSTEM}|{HOME})(?:/(?:\*|\.\*?)?)*|/\*")
HERE = re.compile(r"(?:\.\.?/)*(?:\.\.?|\*|\.\*|\.\[\^\.\]\*|\{,\.\}\*)?")
UNSET = re.compile(r"\$(?:\w+|\{\w+\})/\*?|\$(?:\w+|\{\w+\})\*")
DEVICE = re.compile(r"/dev/(?:[shv]d[a-z]|xvd|nvme|mmcblk|disk|mapper|md\d|loop|dm-|sd\*|r?disk\d|mem|kmem|port)")
ACCOUNTS = re.compile(r"/etc/(?:passwd|shadow|gshadow|group|sudoers(?:\.d/.*)?|fstab)")
SECRET = re.compile(
    r"(?:\.ssh/(?:id_\w+|\*|identity)(?!\S*\.pub)|\.ssh/?$|/etc/(?:g?shadow|sudoers)|\.aws/credentials|\.netrc|\.gnupg"
    r"|\.(?:bash|zsh|python|psql|mysql)_history|\.kube/config|\.pgpass|\.docker/config\.json|\.git-credentials"
    r"|\.config/gcloud|\.pypirc|\.npmrc|/etc/ssl/private|\.env\b|\.pem\b|login\.keychain)"
)
FETCHERS = frozenset({"curl", "wget", "fetch", "lynx", "aria2c", "http", "GET"})
DATABASES = frozenset(
    {"psql", "mysql", "mariadb", "sqlite3", "mongo", "mongosh", "sqlcmd", "clickhouse-client", "cqlsh"}
)
FILTERS = frozenset(
    {"-name", "-iname", "-path", "-ipath", "-regex", "-iregex", "-mtime", "-mmin", "-atime", "-ctime", "-newer"}
    | {"-size", "-empty", "-user", "-perm", "-wholename", "-inum", "-group", "-xtype", "-newermt", "-amin", "-cmin"}
)


@dataclass(frozen=True)
class Danger:
    """A danger that was found: the pattern's name, its reason, and the pipeline it stands in."""

    name: str
    why: str
    command: str


@dataclass(frozen=True)
class Pattern:
    """One kind of danger: `found` tells whether a pipeline, read into its calls, shows it."""

    name: str
    why: str
    found: Callable[[Pipeline], bool]


def line_of(pipeline: Pipeline) -> str:
    """Return a pipeline as one line, without quotes, wrappers and needless spaces."""
    return " | ".join(call.line for call in pipeline)


def any_call(*expressions: str) -> Callable[[Pipeline], bool]:
    """Make a test: true where one of the expressions matches at the beginning of one call's line."""
    compiled = [re.compile(one, re.IGNORECASE) for one in expressions]
    return lambda pipeline: any(one.match(call.line) for one in compiled for call in pipeline)


def is_everything(target: str, also_here: bool = True) -> bool:
    """Tell whether a path means a machine, a home, all files of a directory, or that much if a variable is empty."""
    path = re.sub("/+", "/", target)
    here = also_here and bool(path) and HERE.fullmatch(path)
    return bool(EVERYTHING.fullmatch(path) or UNSET.fullmatch(path) or here)


def deletes_everything(pipeline: Pipeline) -> bool:
    """Tell whether `rm -r`, `find -delete` or `rsync --delete` would take more than one directory."""
    found = (_removes_everything, _finds_everything, _mirrors_nothing)
    return any(one(call, pipeline) for call in pipeline for one in found)


def _mirrors_nothing(call: Call, pipeline: Pipeline) -> bool:
    target = call.operands()[-1:] if call.name == "rsync" and call.has("", "--delete") else []
    return any(is_everything(one, also_here=False) for one in target)


def _removes_everything(call: Call, pipeline: Pipeline) -> bool:
    if call.name != "rm" or "find" in call.via:
        return False
    recursive = call.has("rR", "--recursive")
    if "--no-preserve-root" in call.words:
        return True
    if "xargs" in call.via and recursive:
        return not any(one.name == "find" and _is_filtered(one) for one in pipeline)
    if any(ACCOUNTS.fullmatch(one) or re.search(r"\.(?:ssh|gnupg)/?$", one) for one in call.operands()):
        return True
    return any(is_everything(one, recursive) and (recursive or "*" in one) for one in call.operands())


def _finds_everything(call: Call, pipeline: Pipeline) -> bool:
    removes = "-delete" in call.words or any(one.name in ("rm", "shred") and "find" in one.via for one in pipeline)
    if call.name != "find" or not removes:
        return False
    roots = [word for word in call.words[: _first_test(call)] if word not in ("-L", "-H", "-P")] or ["."]
    whole = any(is_everything(root, also_here=False) for root in roots)
    return whole or (not _is_filtered(call) and any(is_everything(root) for root in roots))


def _first_test(call: Call) -> int:
    tests = [place for place, word in enumerate(call.words) if re.match(r"-[a-z]", word) or word in ("(", "!")]
    return tests[0] if tests else len(call.words)


def _is_filtered(call: Call) -> bool:
    chosen = {word: following for word, following in zip(call.words, (*call.words[1:], ""), strict=True)}
    return any(word in FILTERS and chosen[word] not in ("*", "*.*", ".*") for word in call.words)


def overwrites_device(pipeline: Pipeline) -> bool:
    """Tell whether something writes to a disk or to memory as a whole."""
    writers = {"tee", "cp", "shred", "wipefs", "blkdiscard", "badblocks", "hdparm", "truncate", "mkswap", "mke2fs"}
    for call in pipeline:
        named = any(DEVICE.match(word) for word in call.operands())
        if any(DEVICE.match(one) for one in (*call.command.writes, *call.command.appends)):
            return True
        if call.name in ("dd", "dcfldd") and any(DEVICE.match(word[3:]) for word in call.words if word[:3] == "of="):
            return True
        if named and (call.name in writers or call.name.startswith("mkfs")):
            return call.name != "cp" or bool(DEVICE.match(call.operands()[-1]))
        partitions = r"\b(?:mklabel|mktable|rm|mkpart)\b|--zap-all|-Z\b|--zap|-o\b|--delete|--wipe"
        if named and call.name in ("parted", "sgdisk", "gdisk", "sfdisk") and re.search(partitions, call.line):
            return True
    return False


def changes_rights_of_system(pipeline: Pipeline) -> bool:
    """Tell whether owners or modes of a system or a home change as a whole, or secrets become readable to all."""
    for call in pipeline:
        if call.name in ("chmod", "chown", "chgrp"):
            targets = call.operands()[1:] or call.operands()
            if call.has("R", "--recursive") and any(is_everything(one, also_here=False) for one in targets):
                return True
            opens = call.name == "chmod" and re.search(
                r"(?:^| )(?:0?[0-7]?[0-7][0-7][2367]|[ao]\+\S*w\S*)(?: |$)", call.line
            )
            if opens and any(ACCOUNTS.fullmatch(one) or re.fullmatch(r"/+", one) for one in targets):
                return True
    return False


def runs_remote_script(pipeline: Pipeline) -> bool:
    """Tell whether what was just downloaded is run unread: piped, substituted or sourced."""
    return _runs(pipeline, lambda call: call.name in FETCHERS)


def runs_decoded_script(pipeline: Pipeline) -> bool:
    """Tell whether an encoded text is decoded into a shell, which hides what it does."""
    decodes = re.compile(r"base(?:32|64)\s.*(?:-d|-D|--decode)|xxd\s.*-r|openssl\s.*\s-d\b|rev\b|tr\s+a-zA-Z")
    return _runs(pipeline, lambda call: bool(decodes.match(call.line)))


def _runs(pipeline: Pipeline, is_source: Callable[[Call], bool]) -> bool:
    for place, call in enumerate(pipeline):
        runner = call.name in INTERPRETERS or call.name in ("source", ".", "eval", "su")
        if runner and any(is_source(one) for one in pipeline[:place]):
            return True
        inner = (one for script in call.command.scripts for calls in pipelines(script) for one in calls)
        is_program = call.name.startswith(("$(", "`"))
        if (runner or is_program) and any(is_source(one) for one in inner):
            return True
    return False


def sends_secrets(pipeline: Pipeline) -> bool:
    """Tell whether private keys, password files, histories or the environment leave the machine."""
    secret = any(_mentions_secret(call) for call in pipeline)
    return secret and any(_sends(call) for call in pipeline)


def _mentions_secret(call: Call) -> bool:
    words = [
        word for before, word in zip(("", *call.words), call.words, strict=False) if before not in ("-i", "-F", "-e")
    ]
    kept = words if call.name in ("ssh", "scp", "sftp", "rsync") else list(call.words)
    scripts = list(call.command.scripts)
    whole_environment = call.name in ("env", "printenv", "history", "export") and not call.operands()
    return whole_environment or any(SECRET.search(word) for word in (*kept, *scripts))


def _sends(call: Call) -> bool:
    if call.name in ("nc", "ncat", "netcat", "socat", "telnet", "ftp", "mail", "mailx", "sendmail", "mutt", "ssh"):
        return True
    if any(one.startswith(("/dev/tcp/", "/dev/udp/")) for one in call.command.writes):
        return True
    if call.name == "curl":
        return call.has(
            "dFT", "--data", "--data-binary", "--form", "--upload-file", "--data-raw", "--data-urlencode"
        ) or ("$(" in call.line)
    if call.name == "wget":
        return "--post" in call.line or "--body" in call.line or "$(" in call.line
    return call.name in ("scp", "rsync", "sftp") and bool(re.match(r"[\w.@-]+:", (call.operands() or [""])[-1]))


def is_fork_bomb(pipeline: Pipeline) -> bool:
    """Tell whether a function or a script pipes itself into itself, as `:(){ :|:& };:` does."""
    return len(pipeline) > 1 and not any(call.words for call in pipeline) and len({call.name for call in pipeline}) == 1


def kills_everything(pipeline: Pipeline) -> bool:
    """Tell whether a signal goes to every process or to the first one."""
    for call in pipeline:
        signal = re.match(r"kill (?:-(?:s |n )?|--signal[= ])(?:SIG)?(\w+) ", call.line)
        targets = call.line[signal.end() if signal else len("kill ") :].split()
        harmless = signal is not None and signal[1] in ("0", "1", "HUP", "USR1", "USR2", "CHLD", "WINCH")
        if call.name == "kill" and not harmless and signal and {"-1", "1"} & set(targets):
            return True
        if call.name == "kill" and call.words in (("--", "-1"), ("1",)):
            return True
        if call.name == "killall5" or (call.name == "pkill" and re.search(r" (?:\.|\.\*|)$", call.line)):
            return True
    return False


def drops_database(pipeline: Pipeline) -> bool:
    """Tell whether a database client is told to drop or empty a table or more."""
    told = re.compile(
        r"\bdrop\s+(?:database|schema|table|user)\b|\btruncate\s+(?:table\s+)?\w|\bdropDatabase\b|\bdb\.\w+\.drop\("
        r"|\bdelete\s+from\s+[\w.`\"]+\s*(?:;|$|\|)",
        re.IGNORECASE,
    )
    client = any(call.name in DATABASES for call in pipeline)
    fed = " ".join((line_of(pipeline), *(text for call in pipeline for text in call.command.here_texts)))
    return client and bool(told.search(fed))


def ruins_accounts(pipeline: Pipeline) -> bool:
    """Tell whether the files of accounts, rights and mounts are overwritten, or rights are appended to them."""
    for call in pipeline:
        targets = [*call.command.writes, *(one for one in call.command.appends if "fstab" not in one)]
        if call.name in ("tee", "truncate"):
            targets += [] if call.has("a", "--append") and "fstab" in call.line else call.operands()
        if call.name in ("cp", "mv", "ln") and "/dev/null" in call.operands():
            targets += call.operands()[-1:]
        if any(ACCOUNTS.fullmatch(one) for one in targets):
            return True
    return False


def deletes_by_program(pipeline: Pipeline) -> bool:
    """Tell whether a one-line program of another language removes a whole tree."""
    removing = re.compile(
        r"(?:rmtree|remove_tree|rm_rf|rm_r|rmSync|rmdirSync|rimraf|unlink)\W+['\"]?(?:os\.path\.expanduser\W+)?"
        rf"(?:/+(?:{SYSTEM}/?)?\*?|{HOME}/?|\.{{1,2}}|\*)['\"]"
    )
    return any(call.name in INTERPRETERS and removing.search(call.line) for call in pipeline)
