"""Says what failed, for every kind of failure that a command can foresee; anything else is a bug."""

from __future__ import annotations

import errno
import socket
import sys
import traceback
from dataclasses import dataclass

from trainables.errors import ExitCode, UserError, named, redacted

MAX_LETTERS = 400  # of a message that a library wrote


@dataclass(frozen=True)
class Failure:
    """What a command prints when it fails, and its exit code; without a message it prints nothing."""

    code: ExitCode
    message: str = ""
    hint: str | None = None


# errno -> what must hold, exit code, hint
DISK_FULL = "free some space, or name another directory, then run the same command again"
SPELLING = "check the path; it may be relative"
PERMISSION = "change its permissions, or name another path"
SHORTER = "choose a shorter name; most file systems allow 255 bytes a name"
ONLINE = "check the address, the network and that the server runs"
LIMITS = "end other processes, or raise the limit with `ulimit`"
SYSTEM: dict[int, tuple[str, ExitCode, str]] = {
    errno.ENOENT: ("a file or directory must exist", ExitCode.BAD_INPUT, SPELLING),
    errno.ENOTDIR: ("every part of a path but the last must be a directory", ExitCode.BAD_INPUT, SPELLING),
    errno.EISDIR: ("a file must not be a directory", ExitCode.BAD_INPUT, "name a file in it"),
    errno.EEXIST: ("a new file or directory must not exist", ExitCode.BAD_INPUT, "name another one"),
    errno.ENOTEMPTY: ("a directory must be empty to be replaced", ExitCode.BAD_INPUT, "name another one"),
    errno.ELOOP: ("a symbolic link must lead to a file", ExitCode.BAD_INPUT, "remove the link that leads to itself"),
    errno.ENAMETOOLONG: ("a file must have a name of usual length", ExitCode.BAD_INPUT, SHORTER),
    errno.EACCES: ("a path must be accessible", ExitCode.BAD_INPUT, PERMISSION),
    errno.EPERM: ("a path must be accessible", ExitCode.BAD_INPUT, PERMISSION),
    errno.EROFS: ("a path must be writable", ExitCode.BAD_INPUT, "name a path on another file system"),
    errno.ENOSPC: ("the disk must have free space", ExitCode.INFRASTRUCTURE, DISK_FULL),
    errno.EDQUOT: ("the disk quota must not be used up", ExitCode.INFRASTRUCTURE, DISK_FULL),
    errno.EFBIG: ("a file must not exceed the limit of its size", ExitCode.INFRASTRUCTURE, "raise it: `ulimit -f`"),
    errno.EIO: ("the disk must be readable and writable", ExitCode.INFRASTRUCTURE, "check it, or use another one"),
    errno.ESTALE: ("a mounted directory must be there", ExitCode.INFRASTRUCTURE, "mount it again"),
    errno.ENOLCK: ("the storage must support file locks", ExitCode.INFRASTRUCTURE, "use another --storage"),
    errno.ENOMEM: ("the machine must have enough memory", ExitCode.INFRASTRUCTURE, LIMITS),
    errno.EAGAIN: ("the machine must have free processes and memory", ExitCode.INFRASTRUCTURE, LIMITS),
    errno.EMFILE: ("a process must not open too many files", ExitCode.INFRASTRUCTURE, "raise it: `ulimit -n`"),
    errno.ENFILE: ("the machine must not open too many files", ExitCode.INFRASTRUCTURE, LIMITS),
    errno.EADDRINUSE: ("a port must be free", ExitCode.INFRASTRUCTURE, "end the process that uses it"),
    **{
        number: ("a server must answer", ExitCode.INFRASTRUCTURE, ONLINE)
        for number in (errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EHOSTUNREACH,
                       errno.ENETUNREACH, errno.ENETDOWN, errno.ETIMEDOUT)
    },
}  # fmt: skip

# (module, class) -> what must hold, exit code, hint. An error of a library that is not loaded cannot have been raised.
STORE = "check --tracking-uri and that the server runs; the records have everything, --sync copies them later"
LIBRARIES: dict[tuple[str, str], tuple[str, ExitCode, str]] = {
    ("ray.exceptions", "RayError"): ("Ray must keep running", ExitCode.INFRASTRUCTURE, "run it again with --resume"),
    ("ray.tune.error", "TuneError"): ("Ray Tune must keep running", ExitCode.INFRASTRUCTURE, "run it with --resume"),
    ("mlflow.exceptions", "MlflowException"): ("MLflow must answer", ExitCode.RECORD_DAMAGED, STORE),
    ("optuna.exceptions", "StorageInternalError"): ("the search's database must be readable",
                                                   ExitCode.RECORD_DAMAGED, "begin another with --experiment NAME"),
    ("sqlalchemy.exc", "SQLAlchemyError"): ("a database must answer", ExitCode.RECORD_DAMAGED, STORE),
    ("sqlite3", "Error"): ("a database must answer", ExitCode.RECORD_DAMAGED, STORE),
    ("torch", "OutOfMemoryError"): ("the device must have enough memory", ExitCode.INFRASTRUCTURE,
                                    "end other processes on it, or use a coarser quantization"),
    ("safetensors", "SafetensorError"): ("a file of weights must be whole", ExitCode.BAD_INPUT, "download it again"),
    ("requests.exceptions", "RequestException"): ("a server must answer", ExitCode.INFRASTRUCTURE, ONLINE),
    ("httpx", "TransportError"): ("a server must answer", ExitCode.INFRASTRUCTURE, ONLINE),
    ("urllib3.exceptions", "HTTPError"): ("a server must answer", ExitCode.INFRASTRUCTURE, ONLINE),
    ("yaml", "YAMLError"): ("a configuration must be YAML", ExitCode.BAD_INPUT, "check its quotes and brackets"),
    ("json", "JSONDecodeError"): ("a file must be JSON", ExitCode.RECORD_DAMAGED, "restore it, or make it again"),
}  # fmt: skip
# classes of Python itself
PYTHON: dict[type[BaseException], tuple[str, ExitCode, str | None]] = {
    KeyboardInterrupt: ("stopped by Ctrl-C", ExitCode.STOPPED, None),
    BrokenPipeError: ("", ExitCode.OUTPUT_CLOSED, None),
    MemoryError: ("the machine must have enough memory, but it has not", ExitCode.INFRASTRUCTURE, LIMITS),
    UnicodeError: ("a text must be UTF-8, but {}", ExitCode.BAD_INPUT, "write the file, or the name, in UTF-8"),
}
# errors of Python and torch that have no class of their own
TEXTS: dict[tuple[type[BaseException], str], tuple[str, ExitCode, str]] = {
    (ValueError, "embedded null"): ("a path must not contain the character NUL, but one does", ExitCode.BAD_INPUT,
                                    "check the paths in your files for \\u0000"),
    (ValueError, "integer string conversion"): ("a whole number must have at most 4,300 digits, but one has more",
                                                ExitCode.BAD_INPUT, "check the numbers in the options and files"),
    (OverflowError, "too large"): ("a number must not be so large, but {}", ExitCode.BAD_INPUT, "check the numbers"),
    (OverflowError, "infinity"): ("a number must be finite, but {}", ExitCode.BAD_INPUT, "check the numbers"),
    (ValueError, "float NaN"): ("a number must be finite, but {}", ExitCode.BAD_INPUT, "check the numbers"),
    (RuntimeError, "Symlink loop from "): ("a symbolic link must lead to a file, but there is a {}",
                                           ExitCode.BAD_INPUT, "remove the link that leads to itself"),
    (RuntimeError, "can't allocate memory"): ("the machine must have enough memory, but {}",
                                              ExitCode.INFRASTRUCTURE, LIMITS),
}  # fmt: skip
PARSERS = ("json", "yaml", "tomllib")


def failure_of(error: BaseException) -> Failure | None:
    """Return what to print for an error, None if nobody foresaw it."""
    cause = getattr(error, "cause", None)
    if _is_of(error, "ray.exceptions", "RayTaskError") and isinstance(cause, BaseException):
        return failure_of(cause)  # what failed on a worker; a bug there is a bug here
    if isinstance(error, UserError):
        return Failure(ExitCode(error.exit_code), error.message, error.hint)
    for kind, (must, code, hint) in PYTHON.items():
        if isinstance(error, kind):
            return Failure(code, must.format(_first_line(error)), hint)
    return _of_library(error) or _of_text(error) or (_of_system(error) if isinstance(error, OSError) else None)


def _of_library(error: BaseException) -> Failure | None:
    for (module, name), (must, code, hint) in LIBRARIES.items():
        if _is_of(error, module, name):
            return Failure(code, f"{must}, but {_first_line(error)}", hint)
    return None


def _of_text(error: BaseException) -> Failure | None:
    for (kind, part), (message, code, hint) in TEXTS.items():
        if isinstance(error, kind) and part in str(error):
            return Failure(code, message.format(_first_line(error)), hint)
    if isinstance(error, RecursionError) and _was_raised_in(error, PARSERS):
        return Failure(ExitCode.BAD_INPUT, "values must not nest hundreds of levels deep, but some do",
                       "check for unclosed brackets in the options and files")  # fmt: skip
    return None


def _of_system(error: OSError) -> Failure | None:
    if isinstance(error, socket.gaierror):
        return Failure(ExitCode.INFRASTRUCTURE, f"the name of a server must be known, but {_first_line(error)}", ONLINE)
    if isinstance(error, ConnectionError | TimeoutError) and error.errno not in SYSTEM:
        return Failure(ExitCode.INFRASTRUCTURE, f"a server must answer, but {_first_line(error)}", ONLINE)
    if error.errno is None:  # libraries raise it with a sentence, for a file or a model that they cannot read
        return Failure(ExitCode.BAD_INPUT, _first_line(error), "check the file or the model that it names")
    if error.errno not in SYSTEM:
        return None
    must, code, hint = SYSTEM[error.errno]
    where = f"{named(str(error.filename))}: " if error.filename is not None else ""
    return Failure(code, f"{must}, but {where}{error.strerror}", hint)


def _is_of(error: BaseException, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(error, kind)


def _was_raised_in(error: BaseException, packages: tuple[str, ...]) -> bool:
    *_, innermost = traceback.walk_tb(error.__traceback__)
    module = str(innermost[0].f_globals.get("__name__", ""))
    return module.partition(".")[0] in packages


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return redacted(lines[0])[:MAX_LETTERS] if lines else type(error).__name__
