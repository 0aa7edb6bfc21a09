"""Trials that replay rows, and pilots, which end after a part of their schedule."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import packed
import pytest
from small_trials import ANYTHING_GOES, Sources, SpecMaker, assert_same_outcome, opened, train_to, whole_run
from together import Together, Watched, apart, train_alone

from trainables.data.duplicates import digest_of
from trainables.data.encoding import data_order
from trainables.data.rows import read_rows
from trainables.data_files import data_files, trained_on
from trainables.engine import Engine
from trainables.errors import UserError
from trainables.io.files import read_json
from trainables.probes.probe import Baseline
from trainables.rates import result_of
from trainables.record import Record
from trainables.record_check import check_record
from trainables.source_check import SourceChanged, check_sources
from trainables.spec import Placement, Source, TrialSpec

SHAPE = {"batch_rows": 1, "steps": 4, "eval_every_steps": 4}


@pytest.fixture
def replay(tmp_path: Path) -> Source:
    """Five short rows without pictures, which the task has none of."""
    path = tmp_path / "general.jsonl"
    turns = [[{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": f"{n}"}] for n in range(5)]
    path.write_text("".join(json.dumps({"id": f"g{n}", "messages": one}) + "\n" for n, one in enumerate(turns)))
    return Source(path=path, sha256=digest_of(path))


def test_the_rows_of_a_step_are_task_rows_in_their_order_with_replay_rows_among_them(
    engine: Engine, make_spec: SpecMaker, replay: Source
) -> None:
    spec = make_spec(replay=replay, replay_ratio=0.25, batch_rows=4)
    general = [engine.encoder.conversation(row).tokens for row in read_rows(replay.path)]
    task = [engine.encoder.conversation(engine.train[n]).tokens for n in islice(data_order(len(engine.train), 0), 12)]
    stream, seen = engine.row_stream(spec, 0), []
    for step in range(4):
        [batch] = engine.batches(stream, spec, step)
        own = [one.row.tokens for one in batch.rows]
        assert sum(one in general for one in own) == 1, "one row in four of every step"
        seen += own

    assert [one for one in seen if one not in general] == task
    assert [one in general for one in seen].count(True) == 4 == len({tuple(one) for one in seen if one in general})
    [resumed] = engine.batches(engine.row_stream(spec, 2), spec, 2)
    assert [one.row.tokens for one in resumed.rows] == seen[8:12], "a resumed trial reads on where it stopped"


def test_a_replay_row_that_is_too_long_is_named(engine: Engine, make_spec: SpecMaker, replay: Source) -> None:
    spec = make_spec(replay=replay, replay_ratio=0.25, max_tokens=4)
    with pytest.raises(UserError, match="row `g0` must fit max_tokens = 4"):
        engine.encode(len(engine.train), 4, spec)


def test_a_stopped_trial_with_replay_equals_an_uninterrupted_one(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, replay: Source, tmp_path: Path
) -> None:
    spec = make_spec(replay=replay, replay_ratio=0.3)
    whole = whole_run(engine, spec, tmp_path / "whole", baseline, constraint=ANYTHING_GOES)
    with opened(engine, spec, tmp_path / "stopped", baseline, constraint=ANYTHING_GOES) as trial:
        train_to(trial, 3)
    stopped = whole_run(engine, spec, tmp_path / "stopped", baseline, constraint=ANYTHING_GOES)

    assert_same_outcome(stopped, whole)
    check_record(whole)
    plain = whole_run(engine, make_spec(), tmp_path / "plain", baseline, constraint=ANYTHING_GOES)
    assert plain.evals()[-1].metrics["eval_loss"] != whole.evals()[-1].metrics["eval_loss"]
    adapter = read_json(whole.directory / "best" / "provenance.json")
    assert adapter["data"]["replay"] == {"path": str(replay.path), "sha256": replay.sha256, "rows": 5}


@pytest.mark.slow
def test_members_that_replay_the_same_rows_learn_together_what_they_learn_alone(
    sources: Sources, make_spec: SpecMaker, replay: Source, tmp_path: Path
) -> None:
    with packed.all_double():
        engine, baseline = packed.double_engine(sources), packed.short_baseline(packed.double_engine, sources)
        mix = {"replay": replay, "replay_ratio": 0.5, **SHAPE, "accumulation_steps": 2}
        specs = [
            make_spec(name=name, placement=Placement(language=language, vision=vision), seed=language, **mix)
            for name, language, vision in (("a", 2, 0), ("b", 1, 2), ("c", 0, 2))
        ]
        alone = Watched(engine, baseline, tmp_path / "alone")
        train_alone(alone, specs, 4)
        together = Together(engine, baseline, tmp_path / "together", specs)
        together.finish()
        assert max(apart(together.watched.curves[name], curve) for name, curve in alone.curves.items()) < 1e-8


@pytest.mark.parametrize("change", [{"replay_ratio": 0.2}, {"replay": None, "replay_ratio": 0.0}, {"pilot_steps": 1}])
def test_members_with_other_mixes_or_ends_are_refused(
    engine: Engine, baseline: Baseline, make_spec: SpecMaker, replay: Source, tmp_path: Path, change: dict[str, object]
) -> None:
    one = make_spec(name="a", replay=replay, replay_ratio=0.5, **SHAPE)
    other = one.model_copy(update={"name": "b", "seed": 1, **change})
    with pytest.raises(ValueError, match="but 2 differ"):
        Together(engine, baseline, tmp_path / "trials", [one, other])


def test_replay_rows_that_changed_are_named(make_spec: SpecMaker, replay: Source) -> None:
    spec = make_spec(replay=replay, replay_ratio=0.5)
    check_sources([spec])
    assert list(data_files(spec)) == ["train", "replay", "validation", "ood"]
    assert trained_on(spec) == {spec.train.sha256, replay.sha256}

    replay.path.write_text(replay.path.read_text().replace("say 1", "say one"))
    with pytest.raises(SourceChanged, match="the replay rows must be unchanged"):
        check_sources([spec])


# -------------------------------------------------------------------- pilots
def test_a_pilot_is_the_beginning_of_the_trial_to_the_last_bit(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    spec = make_spec(steps=8, eval_every_steps=4)
    pilot = spec.model_copy(update={"pilot_steps": 2, "eval_every_steps": 2})
    short = make_spec(steps=2, eval_every_steps=2)
    with opened(engine, spec, tmp_path / "full", baseline, constraint=ANYTHING_GOES) as trial:
        train_to(trial, 2)
    records = {
        name: whole_run(engine, one, tmp_path / name, baseline, constraint=ANYTHING_GOES)
        for name, one in (("pilot", pilot), ("short", short))
    }

    def adapter(record: Record) -> bytes:
        return (record.checkpoint(2) / "adapter_model.safetensors").read_bytes()

    ended = records["pilot"]
    assert str(ended.verdict()) == "completed" and [one.step for one in ended.evals()] == [2]
    assert adapter(ended) == adapter(Record(tmp_path / "full"))
    assert adapter(records["short"]) != adapter(ended), "a shorter schedule has other rates"
    check_record(ended)
    result = result_of(ended)
    assert result.losses is not None and result.losses.mean == pytest.approx(ended.evals()[-1].metrics["eval_loss"])
    assert list(result.losses.values) == [row.row_id for row in engine.evaluator.data.validation]


def test_a_pilot_without_its_last_eval_has_lost(
    engine: Engine, make_spec: SpecMaker, baseline: Baseline, tmp_path: Path
) -> None:
    spec = make_spec(steps=8, pilot_steps=2, eval_every_steps=2, learning_rate=1e6, vision_learning_rate=1e6)
    ended = whole_run(engine, spec, tmp_path / "pilot", baseline)

    result = result_of(ended)
    assert result.losses is None and result.lost.startswith("invalid(") and result.rate == 1e6


@pytest.mark.parametrize("steps", [4, 5])
def test_a_pilot_must_end_before_its_schedule(make_spec: SpecMaker, steps: int) -> None:
    with pytest.raises(ValueError, match="pilot_steps must be below steps = 4"):
        TrialSpec.model_validate({**make_spec().model_dump(), "pilot_steps": steps})
