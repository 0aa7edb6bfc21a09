"""The probes: a file each, a line each in `PROBES`; pure functions of what the live model answered."""

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
    """Return the probes that have a row to count; the metrics of the others are absent, never perfect."""
    return tuple(probe for probe in PROBES if probe.rows(data))
