"""The Ray Tune Trainable: passes requests to a backend, and its reports to Tune; imports no torch."""

from __future__ import annotations

from typing import Any

from ray import tune

from trainables.workers.backend import Backend, backend_for
from trainables.workers.protocol import Request, check_version, tune_result


class TrialWorker(tune.Trainable):
    """Trains the trials of a request; a step is one eval interval. Ray reuses its process for further requests.

    `config` holds only `request`.
    """

    _backend: Backend | None = None

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Return the resources that a worker reserves."""
        request: Request = config["request"]
        return tune.PlacementGroupFactory([{"CPU": request.cpus, "GPU": request.gpus}])

    def setup(self, config: dict[str, Any]) -> None:
        """Start the first request.

        Raises:
            ProtocolMismatch: the launch runs another version of this package.
        """
        request: Request = config["request"]
        check_version(request)
        self._request = request
        self._backend = backend_for(request)
        self._backend.take(request)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start the next request in the same process; all requests of a Tuner use the same kind of backend."""
        assert self._backend is not None
        request: Request = new_config["request"]
        check_version(request)
        self._request = request
        self._backend.take(request)
        return True

    def step(self) -> dict[str, Any]:
        """Train to the next eval and report."""
        assert self._backend is not None
        return tune_result(self._backend.advance(), self._request.scheduler_metrics)

    def cleanup(self) -> None:
        """Release the trials and all resources of the backend; Ray calls this before the process ends."""
        if self._backend is not None:
            self._backend.close()
