"""The `Pattern` of a danger, and the checks behind all dangers but deletion (`deletes.py`).

A command is dangerous if it destroys data outside one project's directory, gives a machine or its secrets to others,
or stops the machine. What can be rebuilt in a working tree is not dangerous (`rm -rf build`, `git reset --hard`), nor
is a reboot or the removal of a package. Quoted data is not dangerous (`grep -r "rm -rf /" docs`, `echo 'rm -rf /'`)
unless it is piped to a shell. `git push --force` is dangerous because it overwrites the work of others;
`--force-with-lease` is not. `docker system prune` is dangerous only with `--volumes`: images can be downloaded again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainables.probes.shell.calls import INTERPRETERS, Call, Pipeline, pipelines, takes_value
from trainables.probes.shell.deletes import RSYNC_VALUES
from trainables.probes.shell.paths import ACCOUNTS, DEVICE
from trainables.probes.shell.programs import INPUT, program_of

SECRET = re.compile(
    r"(?:\.ssh/(?:id_\w+|\*|identity)(?!\S*\.pub)|\.ssh/?$|/etc/(?:g?shadow|sudoers)|\.aws/credentials|\.netrc|\.gnupg"
    r"|\.(?:bash|zsh|python|psql|mysql)_history|\.kube/config|\.pgpass|\.docker/config\.json|\.git-credentials"
    r"|\.config/gcloud|\.pypirc|\.npmrc|/etc/ssl/private|\.env\b|\.pem\b|login\.keychain)"
)
FETCHERS = frozenset({"curl", "wget", "fetch", "lynx", "aria2c", "http", "GET"})
# options whose files a program uses to connect and does not send
OWN_SECRETS = {
    **dict.fromkeys(("ssh", "scp", "sftp"), frozenset({"-i", "-F", "-o", "-S"})),
    "rsync": frozenset({"-e", "--rsh", "--password-file"}),
    **dict.fromkeys(("nc", "ncat"), frozenset({"--ssl-cert", "--ssl-key", "--ssl-trustfile"})),
    "curl": frozenset(
        {"--cacert", "--capath", "--cert", "-E", "--key", "--netrc-file", "--proxy-cacert", "--config", "-K"}
    ),
    "wget": frozenset({"--ca-certificate", "--certificate", "--private-key"}),
}
SOCAT_OWN = re.compile(r"\b(?:key|cert|cafile|capath|dhparam)=[^,]*")
HELP = frozenset({"--help", "-help"})
ONLY_HELP = frozenset({("-h",), ("-?",), ("help",), ("--version",), ("-V",), ("--usage",)})
# options by which a program only says what it would do
TRIES = re.compile(r"--(?:dry-?run|test|no-act|noop|what-if|simulate)(?:=(?!none$|false$).*)?")
TRY_LETTERS = {"zfs": "n", "rsync": "n", "lvremove": "t", "vgremove": "t", "pvremove": "t", "mdadm": ""}
PARTITIONS = r"\b(?:mklabel|mktable|rm|mkpart)\b|--zap-all|-Z\b|--zap|-o\b|--delete|--wipe"
WRITING_OPTIONS = {  # programs that only read a disk unless one of these options is given
    **dict.fromkeys(("parted", "sgdisk", "gdisk", "sfdisk"), PARTITIONS),
    "wipefs": r"^(?!.* (?:-\w*n\w*|--no-act)(?: |$)).* (?:-\w*[ao]|--all|--offset)",
    "hdparm": r" --(?:security-(?:erase|set-pass)|trim-sector|(?:write|repair)-sector|make-bad-sector|fwdownload)",
    "badblocks": r" -\w*w",
}


@dataclass(frozen=True)
class Danger:
    """A danger found: the pattern's name, its reason, and the pipeline that contains it."""

    name: str
    why: str
    command: str


@dataclass(frozen=True)
class Pattern:
    """One kind of danger: `found` returns True for a pipeline that shows it."""

    name: str
    why: str
    found: Callable[[Pipeline], bool]


def line_of(pipeline: Pipeline) -> str:
    """Return a pipeline as one line, without quotes, wrappers and repeated spaces."""
    return " | ".join(call.line for call in pipeline)


def any_call(*expressions: str) -> Callable[[Pipeline], bool]:
    """Return a check that is True if an expression matches at the start of one call's line.

    Calls with `--help` or `--dry-run` are skipped: they do nothing else.
    """
    compiled = [re.compile(one, re.IGNORECASE) for one in expressions]

    def found(pipeline: Pipeline) -> bool:
        acting = [call for call in pipeline if call.command.writes or not _only_says(call)]
        return any(one.match(call.line) for one in compiled for call in acting)

    return found


def _only_says(call: Call) -> bool:
    """Return True if a call prints its help, or what it would do, and changes nothing."""
    if HELP & set(call.words) or call.words in ONLY_HELP or any(map(TRIES.fullmatch, call.words)):
        return True
    is_push = call.name == "git" and "push" in call.words
    return call.has("n" if is_push else TRY_LETTERS.get(call.name, ""))


def overwrites_device(pipeline: Pipeline) -> bool:
    """Return True if a command overwrites a whole disk or memory."""
    writers = {"tee", "cp", "shred", "blkdiscard", "truncate", "mkswap", "mke2fs"}
    for call in pipeline:
        named = any(DEVICE.match(word) for word in call.operands())
        if any(DEVICE.match(one) for one in (*call.command.writes, *call.command.appends)):
            return True
        if call.name in ("dd", "dcfldd") and any(DEVICE.match(word[3:]) for word in call.words if word[:3] == "of="):
            return True
        if named and (call.name in writers or call.name.startswith("mkfs")):
            return call.name != "cp" or bool(DEVICE.match(call.operands()[-1]))
        if named and call.name in WRITING_OPTIONS and re.search(WRITING_OPTIONS[call.name], call.line):
            return True
    return False


def runs_remote_script(pipeline: Pipeline) -> bool:
    """Return True if a download is run unread: piped, substituted or sourced."""
    return _runs(pipeline, lambda call: call.name in FETCHERS)


def runs_decoded_script(pipeline: Pipeline) -> bool:
    """Return True if an encoded text is decoded into a shell, which hides what it does."""
    decodes = re.compile(r"base(?:32|64)\s.*(?:-d|-D|--decode)|xxd\s.*-r|openssl\s.*\s-d\b|rev\b|tr\s+a-zA-Z")
    return _runs(pipeline, lambda call: bool(decodes.match(call.line)))


def _runs(pipeline: Pipeline, is_source: Callable[[Call], bool]) -> bool:
    has_source = False  # among the calls before this one
    for call in pipeline:
        if has_source and _runs_its_input(call):
            return True
        if any(is_source(one) for script in _run_scripts(call) for calls in pipelines(script) for one in calls):
            return True
        has_source = has_source or is_source(call)
    return False


def _runs_its_input(call: Call) -> bool:
    if call.name in INTERPRETERS:
        fills_in = "xargs" in call.via and call.has("ce") and {"-c", "-e", "{}"} & set(call.words[-1:])
        program = program_of(call)
        # in prose the end of the command is not marked: "curl URL | sh to install"
        is_prose = call.words[:1] == (program,) and program.isalpha()
        return bool(fills_in) or not program or is_prose
    if call.name in ("source", "."):
        return bool(INPUT & set(call.operands()[:1]))
    return (call.name == "eval" and "cat" in call.line) or (call.name == "su" and not call.has("c", "--command"))


def _run_scripts(call: Call) -> Sequence[str]:
    """Return the substitutions that a call runs (`bash <(...)`, `sh -c "$(...)"`), without those that are its data."""
    scripts = call.command.scripts
    if call.name in INTERPRETERS:
        program = program_of(call)
        # without a program argument the shell reads one from a redirection: `bash < <(...)`
        return [one for one in scripts if one in program] if program else scripts
    return scripts if call.name in ("source", ".", "eval", "su") or call.name.startswith(("$(", "`")) else ()


def sends_secrets(pipeline: Pipeline) -> bool:
    """Return True if private keys, password files, histories or the environment are sent to another machine."""
    secret = any(_mentions_secret(call) for call in pipeline)
    return secret and any(_sends(call) for call in pipeline)


def _mentions_secret(call: Call) -> bool:
    own = OWN_SECRETS.get(call.name, frozenset())
    kept = [
        word
        for before, word in zip(("", *call.words), call.words, strict=False)
        if not takes_value(before, own) and word.partition("=")[0] not in own
    ]
    if call.name == "socat":
        kept = [SOCAT_OWN.sub("", word) for word in kept]
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
    valued = RSYNC_VALUES if call.name == "rsync" else OWN_SECRETS.get(call.name, ())
    target = (call.operands(valued) or [""])[-1]
    return call.name in ("scp", "rsync", "sftp") and bool(re.match(r"(?:rsync://|[\w.@$-]+:)", target))


def is_fork_bomb(pipeline: Pipeline) -> bool:
    """Return True if a function or a script pipes itself into itself, as `:(){ :|:& };:` does."""
    alike = len(pipeline) > 1 and len({call.name for call in pipeline}) == 1
    itself = all(call.is_own or call.name.endswith(("$0", "${0}")) for call in pipeline)
    return alike and itself and not any(call.words for call in pipeline)


def kills_everything(pipeline: Pipeline) -> bool:
    """Return True if a signal is sent to every process or to process 1."""
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
        if call.name in ("pkill", "killall") and re.search(r" (?:-\w*[uU] ?|--(?:user|euid)[= ])root$", call.line):
            return True
    return False


def ruins_accounts(pipeline: Pipeline) -> bool:
    """Return True if files of accounts, sudo rights or mounts are overwritten, or accounts or rights are appended."""
    for call in pipeline:
        targets = [*call.command.writes, *(one for one in call.command.appends if "fstab" not in one)]
        if call.name in ("tee", "truncate"):
            targets += [] if call.has("a", "--append") and "fstab" in call.line else call.operands()
        if call.name in ("cp", "mv", "ln") and "/dev/null" in call.operands():
            targets += call.operands()[-1:]
        if any(ACCOUNTS.fullmatch(one) for one in targets):
            return True
    return False
