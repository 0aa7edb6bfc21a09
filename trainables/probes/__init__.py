"""The probes: a file each, a line each in `PROBES`; pure functions of what the live model answered."""

from trainables.probes import blindness, captions, crops, hallucination, irrelevant, retention, task_fit
from trainables.probes.probe import Probe

PROBES: tuple[Probe, ...] = (
    task_fit.PROBE,
    irrelevant.PROBE,
    hallucination.PROBE,
    blindness.PROBE,
    captions.PROBE,
    crops.PROBE,
    retention.PROBE,
)
