"""Tests the forecast: parameters as a sum over modules, coverage in epochs."""

from __future__ import annotations

import pytest
from planned_trials import trial

from sweeps.planning import forecast as module
from sweeps.planning.forecast import forecast, table
from trainables.errors import UserError
from trainables.model.families import family_of
from trainables.spec import Placement


@pytest.mark.parametrize(
    ("steps", "rows", "accumulation", "coverage"),
    [(500, 1, 8, 0.089), (2000, 2, 16, 1.42), (5000, 4, 16, 7.11)],  # 8.9 %, 142 %, 711 % of 45,000 rows
)
def test_coverage_is_passes_over_the_data(steps: int, rows: int, accumulation: int, coverage: float) -> None:
    [one] = forecast([trial(steps=steps, batch_rows=rows, accumulation_steps=accumulation)], 45_000)
    assert one.coverage_epochs == pytest.approx(coverage, abs=0.003)


def test_parameters_are_counted_per_tower() -> None:
    [one] = forecast([trial(rank=16)], 960)
    text, vision = 16 * (256 + 192 + 192 + 256 + 320 + 320 + 320), 16 * (256 + 128 + 192 + 192)
    assert (one.language_parameters, one.vision_parameters) == (2 * text, 4 * vision)


def test_evals_are_counted_up() -> None:
    [one] = forecast([trial(steps=50, eval_every_steps=20)], 960)
    assert one.evals == 3


def test_the_table_has_a_row_a_trial() -> None:
    header, row = table(forecast([trial()], 960))
    assert len(header) == len(row)
    assert row[0] == "C2"


def test_arms_too_deep_for_a_base_name_those_that_fit() -> None:
    arms = [trial(name=name, arm=arm, placement=Placement(language=2, vision=vision))
            for arm, name, vision in (("L1-all", "L1-all-r8", 0), ("L1-all", "L1-all-r16", 0), ("C2", "C2", 4),
                                      ("C9", "C9", 13))]  # fmt: skip
    with pytest.raises(
        UserError, match="C9 needs L2-V13 and the base has 8 language layers and 12 vision blocks"
    ) as caught:
        forecast(arms, 960)
    assert caught.value.hint == "--only L1-all,C2 fits"


def test_too_deep_a_placement_is_refused() -> None:
    with pytest.raises(UserError, match="last 13 of 12 vision layers"):
        forecast([trial(placement=Placement(language=2, vision=13))], 960)


def test_trials_that_differ_in_their_seed_share_what_is_read_of_their_base(monkeypatch: pytest.MonkeyPatch) -> None:
    read, resolved, place = [], [], module.resolve
    monkeypatch.setattr(module, "family_of", lambda base: (read.append(base), family_of(base))[1])
    monkeypatch.setattr(module, "resolve", lambda *of: (resolved.append(of), place(*of))[1])
    found = forecast([trial(name=f"C2-s{seed}", seed=seed) for seed in range(50)], 960)
    assert len(found) == 50 and (len(read), len(resolved)) == (1, 1)
    two = forecast([trial(), trial(name="B1", placement=Placement(vision=1))], 960)
    assert two[0].vision_parameters != two[1].vision_parameters
