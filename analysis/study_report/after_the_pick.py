"""What the report shows after the pick: the effects of the settings, and the values on held-out rows."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.conclusion import Conclusion
from analysis.decision.judged import Interval
from analysis.effects.design import observations
from analysis.effects.report import effects_report
from analysis.effects.tables import answer_rows, effect_rows
from analysis.holdout import HoldoutFindings
from analysis.placement_results import FIT
from trainables.errors import UserError
from trainables.typed import typed

HOLDOUT_HEADER = ("metric", "where it was chosen", "on held-out rows", "rows", "base alone, held-out rows")


@dataclass(frozen=True)
class EffectsSection:
    """The answers to H1 to H4 and the effects as rows of text; `missing` says why there are none."""

    answers: tuple[tuple[str, ...], ...] = ()
    effects: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    missing: str = ""


def effects_section(found: Conclusion) -> EffectsSection:
    """Estimate the effects of layers, rank and rate where the study's design allows it, else say why not."""
    study = found.study
    logged = {one.run_id: found.measured.get(one.run_id, ()) for one in study.trials}
    baseline = next((one.last for one in study.trials if one.trial_id in study.baseline_ids), None)
    fit = found.info.objectives[FIT].name
    try:
        made = effects_report(study.name, observations(study, logged), (), fit, baseline=baseline)
    except UserError as error:  # the design of this study does not allow it
        return EffectsSection(missing=f"Not estimated: {error.message}.")
    command = typed("effects", "--experiment", study.name)
    more = f"The command `{command}` takes continued trials too, with --continuations."
    return EffectsSection(tuple(answer_rows(made)), tuple(effect_rows(made)), (*made.unknown, more))


def holdout_rows(found: HoldoutFindings | None) -> list[tuple[str, ...]]:
    """Return a row of text for each metric of the pick that was measured on held-out rows."""
    values = found.values if found else ()
    return [
        (
            one.metric,
            _text(one.chosen_on),
            _text(one.held_out),
            str(one.rows) if one.rows else "",
            "not known" if one.baseline is None else f"{one.baseline:.3f}",
        )
        for one in values
    ]


def _text(value: Interval) -> str:
    bounds = "" if value.low is None or value.high is None else f" [{value.low:.3f}, {value.high:.3f}]"
    return f"{value.mean:.3f}{bounds}"
