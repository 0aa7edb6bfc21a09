"""The probes: pure functions of the live model's answers, one file for each, listed in `PROBES`."""

from trainables.probes import blindness, captions, commands, crops, hallucination, irrelevant, retention, task_fit
from trainables.probes.probe import Probe, ProbeData

PROBES: tuple[Probe, ...] = (
    task_fit.PROBE,
    irrelevant.PROBE,
    hallucination.PROBE,
    blindness.PROBE,
    captions.PROBE,
    crops.PROBE,
    retention.PROBE,
    commands.PROBE,
)


def probes_for(data: ProbeData) -> tuple[Probe, ...]:
    """Return the probes that have a row to score; the metrics of the others are not reported."""
    return tuple(probe for probe in PROBES if probe.rows(data))
