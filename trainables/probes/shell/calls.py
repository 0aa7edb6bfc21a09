"""Lists the programs that a shell text would run, also behind `sudo`, `xargs` and `find` and in nested scripts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from trainables.probes.shell.parse import Command, read

MAX_DEPTH = 5
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
INTERNAL_SPACE = re.compile(r"\$IFS\b(?:\$9)?|\$\{IFS\}")  # used as a space by commands that avoid spaces
# possessive quantifiers: answers can repeat one letter a thousand times
FUNCTION = re.compile(r"(?<![\w:.-])([\w:.-]++)\s*+\(\s*+\)")
AWKS = frozenset({"awk", "gawk", "mawk", "nawk"})
AWK_SYSTEM = re.compile(r'\bsystem\s*\(\s*"((?:\\.|[^"\\])*)"')
KEYWORDS = frozenset({"then", "do", "else", "elif", "if", "while", "until", "!", "coproc"})
SHELLS = frozenset({"sh", "bash", "zsh", "dash", "ksh", "fish", "ash"})
SWITCHERS = frozenset({"su", "runuser"})  # start a shell as another user
SCHEDULERS = frozenset({"at", "batch"})  # run the shell text of their input later
INTERPRETERS = SHELLS | {"python", "python2", "python3", "perl", "ruby", "node", "php"}

# programs that run the rest of their words: (letters of options that take a value, words before the program)
WRAPPERS: dict[str, tuple[str, int]] = {
    "sudo": ("ugpCchrtTUDR", 0),
    "doas": ("uC", 0),
    "env": ("uC", 0),
    "nice": ("n", 0),
    "ionice": ("cnp", 0),
    "timeout": ("ks", 1),
    "chroot": ("", 1),
    "stdbuf": ("ioe", 0),
    "xargs": ("nIPLdsEaJRS", 0),
    "parallel": ("jN", 0),
    "exec": ("a", 0),
    "flock": ("wE", 1),
    "runuser": ("ugG", 0),
    "docker exec": ("uew", 1),
    "podman exec": ("uew", 1),
    "kubectl exec": ("cn", 1),
    "lxc exec": ("", 1),
    "incus exec": ("", 1),
    "sshpass": ("pfdP", 0),
    "time": ("fo", 0),
    "watch": ("nq", 0),
    "entr": ("", 0),
    "taskset": ("", 1),
    "chrt": ("", 1),
    "nsenter": ("tSG", 0),
    "unshare": ("SGRw", 0),
    "strace": ("eopsaEIOSuPX", 0),
    "ltrace": ("eopsaEnulAF", 0),
    "systemd-run": ("pEuHM", 0),
    **{
        name: ("", 0)
        for name in (
            *("pkexec", "nohup", "command", "builtin", "setsid", "busybox", "unbuffer", "fakeroot"),
            *("caffeinate", "chronic", "torsocks", "torify", "proxychains", "proxychains4", "systemd-inhibit"),
        )
    },
}
ONE_TEXT = frozenset({"watch", "entr"})  # wrappers that take the program and its words as one text, too
SSH_VALUES = "BbcDEeFIiJLlmOoPpQRSWw"  # letters of its options that take a value
ASKS = re.compile(r"-[0rtx]*p[0rtx]*|--interactive")  # options of `xargs` that ask before each program
LONG_VALUES = frozenset(
    {"--user", "--group", "--chdir", "--host", "--unset", "--adjustment", "--max-args", "--max-procs", "--replace"}
    | {"--signal", "--kill-after", "--delimiter", "--arg-file", "--prompt", "--role", "--type", "--wait", "--timeout"}
    | {"--env", "--workdir", "--container", "--namespace", "--interval", "--equexit", "--format", "--output"}
)


@dataclass(frozen=True)
class Call:
    """A program and its words: `name` without its directory, `via` the wrappers it runs behind.

    `is_own` is true for a function that the same text defines, `asks` where `find` or `xargs` asks before it is run.
    """

    name: str
    words: tuple[str, ...]
    command: Command
    via: tuple[str, ...] = ()
    is_own: bool = False
    asks: bool = False

    @property
    def line(self) -> str:
        """Return the call as one line: single spaces, no quotes, no wrapper, redirections at the end."""
        writes = [f"> {target}" for target in self.command.writes]
        appends = [f">> {target}" for target in self.command.appends]
        return " ".join((self.name, *self.words, *writes, *appends))

    def has(self, letters: str, *names: str) -> bool:
        """Return True if an option is given: one of the letters, alone or combined, or one of the long names."""
        for word in self.words:
            if word == "--":
                return False
            if re.fullmatch(r"-[A-Za-z0-9]+", word) and any(letter in word for letter in letters):
                return True
            # GNU programs accept any unambiguous prefix of a long option
            if len(word) > 4 and word.startswith("--") and any(name.startswith(word.split("=")[0]) for name in names):
                return True
        return False

    def operands(self, valued: Collection[str] = ()) -> list[str]:
        """List the words that are not options, nor values of the options `valued`, alone or the last of a group."""
        end = self.words.index("--") if "--" in self.words else len(self.words)
        before = ("", *self.words)
        return [
            word
            for place, word in enumerate(self.words[:end])
            if not re.match(r"-.", word) and not takes_value(before[place], valued)
        ] + list(self.words[end + 1 :])


Pipeline = tuple[Call, ...]


def takes_value(word: str, valued: Collection[str]) -> bool:
    """Return True if the next word is the value of this option: `-e`, `-avze` or `--rsh`, where those are `valued`."""
    return word in valued or bool(re.fullmatch(r"-[A-Za-z0-9]{2,}", word) and f"-{word[-1]}" in valued)


def pipelines(text: str, depth: int = 0) -> Iterator[Pipeline]:
    """Yield every pipeline of a text as its calls, then those of nested scripts, at most MAX_DEPTH levels deep."""
    if depth >= MAX_DEPTH:
        return
    own = set(FUNCTION.findall(text))
    for pipeline in read(INTERNAL_SPACE.sub(" ", text)).pipelines:
        found = (call for command in pipeline for call in calls_of(command))
        calls = tuple(replace(call, is_own=call.name in own) for call in found)
        yield calls
        for command in pipeline:
            for script in command.scripts:
                yield from pipelines(script, depth + 1)
        for script in _scripts_run_by(calls):
            yield from pipelines(script, depth + 1)


def calls_of(command: Command) -> list[Call]:
    """List the programs that one simple command runs: itself without its wrappers, and what `find` executes."""
    words = [word.text for word in command.words]
    via: list[str] = []
    asks = False
    while words:
        name = words[0] if words[0] in KEYWORDS else _program(words[0])
        if name in KEYWORDS or ASSIGNMENT.match(words[0]):
            del words[0]  # in place: a slice per keyword would be quadratic
        elif (wrapper := _wrapper(name, words)) and len(words) > 1:
            via.append(wrapper)
            before = words[1 + wrapper.count(" ") :]
            words = _unwrapped(wrapper, list(before))
            asks |= wrapper == "xargs" and any(map(ASKS.fullmatch, before[: len(before) - len(words)]))
        else:
            break
    if not words:
        return [Call(via[-1] if via else "", (), command, tuple(via[:-1]))] if via or command.writes else []
    call = Call(_program(words[0]), tuple(words[1:]), command, tuple(via), asks=asks)
    return [call, *_executed_by_find(call)]


def _program(word: str) -> str:
    """Return a program's name without its directory; an expansion stays as it is."""
    return word if "$" in word or "`" in word else word.rsplit("/", 1)[-1] or word


def _wrapper(name: str, words: list[str]) -> str:
    """Return the wrapper that a command begins with, or "". `runuser USER -c TEXT` acts like `su` and is not one."""
    if name == "runuser" and not {"-u", "--user"} & set(words):
        return ""
    return next((one for one in (" ".join((name, *words[1:2])), name) if one in WRAPPERS), "")


def _unwrapped(name: str, words: list[str]) -> list[str]:
    """Drop a wrapper's own options and words."""
    letters, operands = WRAPPERS[name]
    while words and (words[0].startswith("-") or operands or (name in ("env", "sudo") and ASSIGNMENT.match(words[0]))):
        word = words.pop(0)
        if word == "--":
            break
        if name == "flock" and word in ("-c", "--command"):
            return ["sh", "-c", *words]
        if word in LONG_VALUES or (re.fullmatch(r"-[A-Za-z]+", word) and word[-1] in letters):
            words = words[1:]
        elif not word.startswith("-") and not ASSIGNMENT.match(word):
            operands -= 1
    return words


def _executed_by_find(call: Call) -> list[Call]:
    found = []
    if call.name == "find":
        for place, word in enumerate(call.words):
            if word in ("-exec", "-execdir", "-ok", "-okdir"):
                rest = call.words[place + 1 :]
                ends = [index for index, one in enumerate(rest) if one in (";", "+")]
                inner = rest[: ends[0]] if ends else rest
                if inner:
                    asks = word in ("-ok", "-okdir")
                    found.append(Call(_program(inner[0]), inner[1:], call.command, (*call.via, "find"), asks=asks))
    return found


def _scripts_run_by(calls: Pipeline) -> Iterator[str]:
    """Yield the shell texts that calls run: in their words, here-documents, or an `echo` piped to a shell."""
    for place, call in enumerate(calls):
        if call.name in INTERPRETERS | SWITCHERS:
            yield from _inline(call)
        if call.name in AWKS:
            yield from (text.replace('\\"', '"') for word in call.words for text in AWK_SYSTEM.findall(word))
        if call.name in SHELLS | SCHEDULERS:
            yield from call.command.here_texts
            reads = call.name in SCHEDULERS or not call.operands()
            if place and calls[place - 1].name in ("echo", "printf") and reads:
                printed = " ".join(word for word in calls[place - 1].words if not re.fullmatch(r"-[neE]+", word))
                yield printed.replace("\\n", "\n")
        yield from _texts_in_words(call)


def _texts_in_words(call: Call) -> Iterator[str]:
    """Yield the shell texts that a call other than a shell takes as words."""
    if call.name in ("eval", "watch", "parallel"):
        yield " ".join(call.words)
    elif call.name == "hyperfine":
        yield from call.operands()
    elif call.name == "ssh":
        yield _remote_text(call)
    elif call.name == "trap" and call.words:
        yield call.words[0]
    elif call.name == "alias":
        yield from (word.partition("=")[2] for word in call.words)
    elif call.name == "vagrant" and call.words[:1] == ("ssh",):
        yield from (code for flag, code in pairwise(call.words) if flag in ("-c", "--command"))
    elif ONE_TEXT & set(call.via) and " " in call.name:
        yield call.name


def _remote_text(call: Call) -> str:
    """Return the shell text that `ssh` runs on its host, "" if it opens a shell; options may follow the host."""
    words, has_host = list(call.words), False
    while words and (words[0].startswith("-") or not has_host):
        word = words.pop(0)
        if not word.startswith("-"):
            has_host = True
        elif len(word) == 2 and word[1] in SSH_VALUES:
            del words[:1]
    return " ".join(words)


def _inline(call: Call) -> Iterator[str]:
    """Yield the text after `-c` of a shell, or the shell texts inside a program given by `-c` or `-e`."""
    for flag, code in pairwise(call.words):
        if not re.fullmatch(r"-[A-Za-z]*[ceE]|--command", flag):
            continue
        if call.name in SHELLS | SWITCHERS:
            yield code
        else:
            yield from (
                text for _, text in re.findall(r"(?:system|exec\w*|popen|run|call|Popen)\s*\(?\s*(['\"])(.+?)\1", code)
            )
