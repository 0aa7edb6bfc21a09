"""The probes: pure functions of the live model's answers, one file for each, listed in `PROBES`.

- `answer`: Writes the base's own answers as `expect` into text rows, so that text retention measures what the base can
  do.
- `blindness`: Blindness: empty, near-empty or repetitive answers to questions about images.
- `captions`: Caption sanity: compares captions of a few fixed images with the baseline's captions.
- `commands`: Probe for shell tasks: how often an answer is only a command, and how often it is dangerous.
- `crops`: Crop consistency: a slightly cropped validation image must get the same answer as the whole image.
- `declines`: Declines: questions that a good model refuses, or says it cannot know, must still be declined.
- `earlier_stages`: Earlier stages: how well the adapter of a curriculum still predicts the validation rows of earlier
  stages.
- `hallucination`: Hallucination: forbidden terms or words of the task in answers about unrelated images.
- `irrelevant`: Irrelevant-image pass: questions about unrelated images must get the agreed refusal.
- `kit/`: A kit of pictures outside any task, drawn here: `footprint data kit --out DIR`.
- `metric`: Metrics with name, direction and meaning, and proportions with their counts.
- `probe`: The definition of a probe: questions to the live model, and a pure function from its answers to metrics.
- `question`: Questions of probes, made from validation and out-of-distribution rows.
- `reserve`: Core and reserve: the irrelevant rows that every eval asks, and those that only guards ask, with their
  results.
- `retention`: Text retention: text-only questions that must still get the expected answer, or one that is accepted.
- `shell/`: Reads command lines: whether an answer is exactly one command, and whether running it does harm.
- `shift`: Shift: how far a tuned model has moved from its base on the base's own answers; it needs no labels.
- `task_fit`: Task fit: loss, token accuracy and exact match on validation rows, and the gap to the training rows.
"""

from trainables.probes import (
    blindness,
    captions,
    commands,
    crops,
    declines,
    hallucination,
    irrelevant,
    retention,
    task_fit,
)
from trainables.probes.probe import Probe, ProbeData

PROBES: tuple[Probe, ...] = (
    task_fit.PROBE,
    irrelevant.PROBE,
    hallucination.PROBE,
    blindness.PROBE,
    captions.PROBE,
    crops.PROBE,
    retention.PROBE,
    declines.PROBE,
    commands.PROBE,
)


def probes_for(data: ProbeData) -> tuple[Probe, ...]:
    """Return the probes that have a row to score; the metrics of the others are not reported."""
    return tuple(probe for probe in PROBES if probe.rows(data))
