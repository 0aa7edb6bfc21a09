"""Tests two writers of one record that both live: what the late one writes never reaches what readers see."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trainables.attempt import claim, superseded_by
from trainables.checkpoints.adapter import adapter_source
from trainables.errors import UserError
from trainables.io.files import write_json
from trainables.lease import Lease, Owner, Superseded, read_lease, write_lease
from trainables.measurement import Measurement
from trainables.record import Record, records_under
from trainables.record_check import check_record
from trainables.spec import Placement, Source, TrialSpec
from trainables.verdict import Verdict

WRITERS = [Owner(host=name, machine=f"{name} boot", pid=1, started=1) for name in "abcd"]
FAILED = Verdict(kind="failed", step=0, cause="lost", reason="the node is gone")


def begun(root: Path) -> Record:
    sources: dict[str, Any] = {
        key: Source(path=Path(key), sha256=key) for key in ("base", "train", "validation", "ood")
    }
    spec = TrialSpec(name="A1", placement=Placement(language=1), **sources)
    record = Record(root / "experiment" / "trials" / f"A1-{spec.trial_id}")
    record.create(spec)
    return record


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return begun(tmp_path)


def taken(record: Record, writer: Owner, launch: int = 0) -> Record:
    """Claim a record for a process that no other can see."""
    return claim(record, launch, ended=lambda _: None, me=writer)


def evaluated(step: int) -> Measurement:
    return Measurement("eval", step, {"eval_loss": float(step)})


def checkpoint(record: Record, step: int) -> None:
    with record.saving(f"checkpoints/step-{step}") as directory:
        write_json(directory / "progress.json", {"step": step})


def steps(record: Record) -> tuple[list[int], list[int]]:
    return [one.step for one in record.evals()], record.checkpoint_steps()


def test_a_late_writer_is_refused_by_the_lease_where_the_newer_directory_is_not_seen_yet(record: Record) -> None:
    late = taken(record, WRITERS[0])
    late.append(evaluated(2))
    taken_over = Lease(epoch=1, owner=WRITERS[1])
    write_lease(record.home, taken_over)  # NFS may list a new directory later than it gives the file's content
    with pytest.raises(Superseded, match="attempt 1 took over from attempt 0"):
        late.close(FAILED)
    assert read_lease(record.home) == taken_over and late.verdict() is None


# ---------------------------------------------------------------- who writes where
def test_the_first_writer_and_one_whose_owner_has_ended_write_in_place(record: Record) -> None:
    assert taken(record, WRITERS[0]).directory == record.home
    after = claim(record, ended=lambda _: True, me=WRITERS[1])
    assert after.directory == record.home and read_lease(record.home) == Lease(epoch=0, owner=WRITERS[1])
    assert taken(record, WRITERS[1]).directory == record.home  # the same process opens its trial again


def test_a_takeover_goes_on_from_all_that_was_whole(record: Record) -> None:
    late = taken(record, WRITERS[0])
    late.append(evaluated(2))
    checkpoint(late, 2)
    checkpoint(late, 4)
    (late.checkpoint(4) / "progress.json").write_text("{")  # damaged
    late.write_samples(2, [{"answer": "yes"}])
    with (late.directory / "metrics.jsonl").open("a") as file:
        file.write('{"torn')
    after = taken(record, WRITERS[1])
    assert after.directory == record.home / "epoch-1" == record.directory
    assert steps(record) == ([2], [2])
    assert record.samples(2) == [{"answer": "yes"}]
    assert record.spec() == Record(record.home, 0).spec()
    assert read_lease(record.home) == Lease(epoch=1, owner=WRITERS[1])
    assert [one.home for one in records_under(record.home.parent)] == [record.home]


def test_without_hard_links_the_files_are_copied(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: Any) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr("os.link", no_link)
    checkpoint(taken(record, WRITERS[0]), 2)
    taken(record, WRITERS[1])
    assert record.directory.name == "epoch-1" and record.checkpoint_steps() == [2]


def test_a_takeover_that_was_killed_halfway_is_made_anew(record: Record) -> None:
    taken(record, WRITERS[0]).append(evaluated(2))
    half = record.home / ".epoch.tmp"
    half.mkdir()
    (half / "metrics.jsonl").write_text("half")
    assert record.directory == record.home
    taken(record, WRITERS[1])
    assert steps(record) == ([2], [])


# ---------------------------------------------------------------- the late writer
def test_a_late_writer_is_refused(record: Record) -> None:
    late = taken(record, WRITERS[0])
    late.append(evaluated(2))
    taken(record, WRITERS[1])
    for write in (lambda: late.append(evaluated(4)), lambda: checkpoint(late, 4), lambda: late.close(FAILED)):
        with pytest.raises(Superseded, match="attempt 1 took over from attempt 0"):
            write()
    assert steps(record) == ([2], []) and record.verdict() is None


def test_a_write_that_began_before_the_takeover_reaches_no_reader(record: Record) -> None:
    late = taken(record, WRITERS[0])
    with late.saving("checkpoints/step-2") as directory:
        write_json(directory / "progress.json", {"step": 2})
        after = taken(record, WRITERS[1])
    assert late.checkpoint_steps() == [2] and record.checkpoint_steps() == []
    after.append(evaluated(2))
    after.close(FAILED)
    assert record.verdict() == FAILED and late.verdict() is None
    check_record(record)


def test_a_trial_that_was_closed_is_given_back(record: Record) -> None:
    taken(record, WRITERS[0]).close(FAILED)
    assert read_lease(record.home) == Lease(epoch=0)
    assert taken(record, WRITERS[1]).directory == record.home
    check_record(record)


def test_a_verdict_that_was_not_given_back_is_reached_anew(record: Record) -> None:
    """The process, or its machine, may have ended before it wrote the manifest."""
    late = taken(record, WRITERS[0])
    late.append(evaluated(2))
    write_json(late.directory / "verdict.json", FAILED.model_dump(mode="json"))
    taken(record, WRITERS[1])
    assert record.verdict() is None and steps(record) == ([2], [])
    check_record(record)


def test_an_earlier_launch_claims_nothing(record: Record) -> None:
    experiment = record.home.parent.parent
    write_lease(experiment, Lease(epoch=2, owner=WRITERS[1]))
    with pytest.raises(Superseded, match="launch 2 took over from launch 1"):
        taken(record, WRITERS[0], launch=1)
    assert read_lease(record.home) == Lease()
    taken(record, WRITERS[1], launch=2)


# ---------------------------------------------------------------- adapters that people name
def test_the_adapter_of_an_attempt_that_was_taken_over_is_not_the_trial_s(record: Record, tmp_path: Path) -> None:
    late = taken(record, WRITERS[0])
    checkpoint(late, 2)
    best, saved = record.home / "best", late.checkpoint(2)
    assert (superseded_by(best), superseded_by(saved)) == (None, None)
    taken(record, WRITERS[1])
    assert superseded_by(best) == record.home / "epoch-1" / "best"
    assert superseded_by(saved) == record.home / "epoch-1" / "checkpoints" / "step-2"
    assert superseded_by(record.home / "epoch-1" / "best") is None
    taken(record, WRITERS[2])
    assert superseded_by(record.home / "epoch-1" / "best") == record.home / "epoch-2" / "best"
    (tmp_path / "other" / "epoch-3").mkdir(parents=True)  # another tool's name for its checkpoints
    assert superseded_by(tmp_path / "other" / "final") is None


def test_an_adapter_of_an_attempt_that_was_taken_over_is_refused_with_the_one_to_pass(record: Record) -> None:
    late = taken(record, WRITERS[0])
    with late.saving("best") as directory:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (directory / name).write_text("{}")
    path = record.directory / "best"
    assert adapter_source(path).path == path
    taken(record, WRITERS[1])
    with pytest.raises(UserError) as refused:
        adapter_source(path)
    assert str(refused.value.hint).startswith(f"pass {record.directory / 'best'};")
    assert adapter_source(record.directory / "best").path == record.home / "epoch-1" / "best"


# ---------------------------------------------------------------- any order
class Writers(RuleBasedStateMachine):
    """Four processes claim one record, write, and write late; readers see what the newest attempt wrote, whole."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.record = begun(self.root)
        self.attempts: dict[int, Record] = {}
        self.newest: int | None = None
        self.saving: dict[int, tuple[int, AbstractContextManager[Path]]] = {}
        self.step = 0
        self.evals: list[int] = []
        self.checkpoints: list[int] = []
        self.verdict: Verdict | None = None

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def next_step(self) -> int:
        self.step += 1
        return self.step

    @precondition(lambda self: self.verdict is None)
    @rule(writer=st.integers(0, 3))
    def claims(self, writer: int) -> None:
        self.attempts[writer] = taken(self.record, WRITERS[writer])
        self.newest = writer

    @precondition(lambda self: self.newest is not None and self.verdict is None)
    @rule()
    def writes(self) -> None:
        step = self.next_step()
        own = self.attempts[self.newest or 0]
        own.append(evaluated(step))
        checkpoint(own, step)
        self.evals.append(step)
        self.checkpoints.append(step)

    @rule(writer=st.integers(0, 3))
    def begins_to_save(self, writer: int) -> None:
        if writer == self.newest and self.verdict is None and writer not in self.saving:
            step = self.next_step()
            saving = self.attempts[writer].saving(f"checkpoints/step-{step}")
            write_json(saving.__enter__() / "progress.json", {"step": step})
            self.saving[writer] = step, saving

    @rule(writer=st.integers(0, 3))
    def has_saved(self, writer: int) -> None:
        if writer in self.saving and not (writer == self.newest and self.verdict):
            step, saving = self.saving.pop(writer)
            saving.__exit__(None, None, None)
            if self.attempts[writer].directory == self.record.directory:
                self.checkpoints.append(step)

    @rule(writer=st.integers(0, 3))
    def writes_late(self, writer: int) -> None:
        late = self.attempts.get(writer)
        if late is None or late.directory == self.record.directory:
            return
        for write in (late.append, lambda one: checkpoint(late, one.step), lambda _: late.close(FAILED)):
            with pytest.raises(Superseded):
                write(evaluated(self.next_step()))
        with (late.directory / "metrics.jsonl").open("a") as file:  # as if it had checked just before the takeover
            file.write(evaluated(self.next_step()).line() + "\n")

    @precondition(lambda self: self.newest is not None and self.verdict is None)
    @rule()
    def closes(self) -> None:
        self.attempts[self.newest or 0].close(FAILED)
        self.verdict = FAILED

    @invariant()
    def readers_see_one_attempt_whole(self) -> None:
        assert [one.step for one in self.record.evals()] == self.evals
        assert sorted(self.record.checkpoint_steps()) == sorted(self.checkpoints)
        assert self.record.verdict() == self.verdict
        check_record(self.record)


TestWriters = Writers.TestCase
TestWriters.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
