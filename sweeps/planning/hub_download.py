"""Downloads a base from the model hub, and shows how much of it is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainables.errors import UserError
from trainables.progress import Advance, doing

BASE_PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")


def downloaded_base(name: str) -> Path:
    """Return the directory of a model of the hub; what the cache lacks is downloaded.

    Raises:
        UserError: the hub has no such model, or does not answer and the cache does not hold it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        with doing(f"asking the hub for {name}"):
            missing = missing_bytes(name)
        if not missing:
            return Path(snapshot_download(name, allow_patterns=list(BASE_PATTERNS), tqdm_class=_bar(lambda _: None)))
        with doing(f"downloading {name}", missing, "bytes") as advance:
            return Path(snapshot_download(name, allow_patterns=list(BASE_PATTERNS), tqdm_class=_bar(advance)))
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, OSError) as error:
        raise UserError(
            f"a base must be a directory or a model of the hub, but `{name}` is no directory and the hub says: "
            f"{str(error).splitlines()[0]}",
            "download it where there is internet and pass the directory",
        ) from None


def missing_bytes(name: str) -> int:
    """Return how much of a model the cache lacks; 0 also where the hub does not answer."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        quiet = _bar(lambda _: None)
        found = snapshot_download(name, allow_patterns=list(BASE_PATTERNS), dry_run=True, tqdm_class=quiet)
    except (HfHubHTTPError, OSError):  # the download itself then says what is wrong, or finds all in the cache
        return 0
    return sum(one.file_size or 0 for one in found if one.will_download)


def _bar(advance: Advance) -> Any:
    """Return a class of bars that draw nothing and pass on the bytes that are written."""
    from tqdm.std import tqdm

    class Counted(tqdm):  # type: ignore[type-arg]
        def __init__(self, *given: Any, unit: str = "it", desc: str = "", **named: Any) -> None:
            self.counts = unit == "B" and not desc.startswith("Downloading")  # which are bytes on the network, again
            super().__init__(*given, **named, unit=unit, desc=desc, disable=True)

        def update(self, n: float | None = 1) -> bool | None:
            if self.counts:
                advance(n or 0)
            return None

    return Counted
