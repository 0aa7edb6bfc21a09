"""Tests that an experiment goes on with the guards and the constraint that it was begun with."""

from __future__ import annotations

import json
from dataclasses import replace

from sweeps.stage4 import STUDY
from sweeps.study import as_kept, rules_of
from trainables.constraint import BestConstraint
from trainables.guards import Ceiling, Floor


def kept(study: object) -> dict[str, object]:
    return json.loads(json.dumps(rules_of(study)))  # type: ignore[arg-type] as study.json holds them


def test_a_study_that_was_changed_since_decides_as_the_experiment_began() -> None:
    begun = replace(
        STUDY,
        guards=(Floor("irrelevant_pass", 0.5, 0.1, 3), Ceiling("hallucination", 0.4, 2)),
        constraint=BestConstraint(0.3, 0.2),
        reading="exact",
    )
    assert as_kept(STUDY, kept(begun)) == replace(
        STUDY, guards=begun.guards, constraint=begun.constraint, reading="exact"
    )
    assert as_kept(begun, kept(STUDY)) == replace(
        begun, guards=STUDY.guards, constraint=STUDY.constraint, reading="tested"
    )


def test_rules_of_the_users_own_stay_those_of_the_study() -> None:
    configuration = {
        **kept(STUDY),
        "guards": [{"rule": "TooFewRight", "metric": "exact_match"}],
        "constraint": {"own": 1},
    }
    found = as_kept(STUDY, configuration)
    assert (found.guards, found.constraint) == (STUDY.guards, STUDY.constraint)
