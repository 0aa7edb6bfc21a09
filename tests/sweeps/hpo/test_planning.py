"""Tests how a search is planned on its base and data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from searched_sources import SOURCES

from sweeps.hpo import planning
from sweeps.hpo.planning import planned_search, with_replay
from sweeps.planning.active_guards import ActiveGuards
from sweeps.planning.mixes import AskedMix, Mix
from sweeps.planning.plan import Plan
from sweeps.planning.preflight import Preflight
from sweeps.search import SEARCH
from trainables.errors import UserError
from trainables.spec import Source


def test_what_a_probe_of_the_command_line_reports_can_be_an_objective() -> None:
    search = replace(SEARCH, objectives=("exact_match", "shift"))
    sources = replace(SOURCES, reported=frozenset({"exact_match", "irrelevant_pass"}))
    plan = Plan(sources, [], Preflight({}, ()), ActiveGuards(SEARCH.study), reported=frozenset({"shift"}))
    assert planned_search(search, plan).objectives == ("exact_match", "shift")
    with pytest.raises(UserError, match="trials on this data report no `shift`"):
        planned_search(search, replace(plan, reported=frozenset()))


def test_a_mix_is_the_replay_of_every_trial_on_the_miniature_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    general = Source(path=tmp_path / "general.jsonl", sha256="9e9e")
    monkeypatch.setattr(planning, "read_mixes", lambda asked, _: tuple(Mix(general, one.ratio) for one in asked))
    study = with_replay(SEARCH.study, AskedMix(general.path, 0.25), SOURCES)
    for settings in (study.settings, study.miniature):
        assert (settings["replay"], settings["replay_ratio"]) == (general, 0.25)
    assert with_replay(SEARCH.study, None, SOURCES) is SEARCH.study
