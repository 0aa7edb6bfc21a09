"""One process that loads saved adapters for each base, kept from test to test: it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trainables.selftest.reload import BaseToLoad, Reloader
from trainables.spec import TrialSpec


class KeptReloader(Reloader):
    """Goes on when its engine is dropped, for the next engine on the same base."""

    def close(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            super().close()


@pytest.fixture(scope="session", autouse=True)
def kept_reloaders() -> Iterator[None]:
    kept: dict[BaseToLoad, KeptReloader] = {}

    def reloader(spec: TrialSpec, device: str) -> KeptReloader:
        made = KeptReloader(spec, device)
        return kept.setdefault(made.loads, made)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainables.workers.engine_cache.Reloader", reloader)
        yield
    for one in kept.values():
        Reloader.close(one)
