from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from small_trials import SpecMaker

from trainables import record as record_module
from trainables.io.files import FileDamaged, write_json
from trainables.io.manifest import is_whole
from trainables.measurement import newest_eval
from trainables.probes.metric import Proportion
from trainables.record import Measurement, Record, records_under
from trainables.verdict import Verdict

REUSED_DIRECTORY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
HISTORY = [
    # one bit turns 1e108 into 1e908
    Measurement(kind, step, {"eval_loss": 1 / step, "huge": 1e108 * step}, counts)
    for step in (2, 4)
    for kind, counts in (("eval", {"exact_match": Proportion(step, 7)}), ("train", {}))
]


def written(record: Record, history: list[Measurement] = HISTORY) -> Path:
    for one in history:
        record.append(one)
    return record.directory / "metrics.jsonl"


def checkpoint(record: Record, step: int) -> Path:
    with record.saving(f"checkpoints/step-{step}") as directory:
        (directory / "adapter.bin").write_bytes(bytes([step]) * 100)
        write_json(directory / "progress.json", {"step": step})
    return record.checkpoint(step)


def test_what_was_written_is_read(record: Record, make_spec: SpecMaker) -> None:
    written(record)
    assert record.spec() == make_spec()
    assert record.measurements() == sorted(HISTORY, key=lambda one: (one.step, one.kind))
    assert [one.step for one in record.evals()] == [2, 4]


def test_metrics_cut_at_every_byte_are_a_prefix_and_can_be_appended_to(record: Record) -> None:
    path = written(record)
    whole = path.read_bytes()
    ends = [0, *(index + 1 for index, byte in enumerate(whole) if byte == ord("\n"))]
    new = Measurement("eval", 8, {"eval_loss": 0.5})
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        complete = sum(end <= length for end in ends) - 1
        expected = sorted(HISTORY[:complete], key=lambda one: (one.step, one.kind))
        assert record.measurements() == expected
        record.append(new)
        assert record.measurements() == [*expected, new]


@REUSED_DIRECTORY
@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_changes_nothing(record: Record, place: int, bit: int) -> None:
    path = record.directory / "metrics.jsonl"
    path.unlink(missing_ok=True)
    written(record)
    data = bytearray(path.read_bytes())
    place %= len(data) - 1  # without the last line's end, the last line is a torn tail
    data[place] ^= 1 << bit
    path.write_bytes(data)
    try:
        read = record.measurements()
    except FileDamaged as error:
        line = bytes(data[:place]).count(b"\n") + 1
        assert error.exit_code == 4
        assert f"{path}:{line}:" in error.message
    else:
        assert read == sorted(HISTORY, key=lambda one: (one.step, one.kind))


def test_a_number_that_became_infinite_is_damage_with_its_line(record: Record) -> None:
    path = written(record)
    path.write_bytes(path.read_bytes().replace(b"4e+108", b"4e+908"))
    with pytest.raises(FileDamaged, match=r"metrics\.jsonl:3: every line must match its checksum"):
        record.measurements()


def test_a_lost_line_in_the_middle_is_not_hidden_by_the_next(record: Record) -> None:
    path = written(record)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], lines[1][:20] + lines[2], *lines[3:]]))
    with pytest.raises(FileDamaged, match=r"metrics\.jsonl:2"):
        record.measurements()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_invalid_number_is_refused(record: Record, value: float) -> None:
    with pytest.raises(ValueError, match="eval_loss at step 3"):
        record.append(Measurement("eval", 3, {"fine": 1.0, "eval_loss": value}))
    assert record.measurements() == []


def test_an_eval_keeps_its_counts_with_its_rates(record: Record) -> None:
    path, kept = written(record), {"eval_loss": 0.5, "huge": 2e108}
    first = json.loads(path.read_text().splitlines()[0])
    assert (first["counts"], first["metrics"]) == ({"exact_match": [2, 7]}, kept)
    assert record.evals()[0].counts["exact_match"].rate == 2 / 7
    record.forget_after(2)
    assert record.evals()[0].counts == {"exact_match": Proportion(2, 7)}


def test_a_line_of_an_earlier_version_has_no_counts(record: Record) -> None:
    line = '{"crc32":2867506943,"kind":"eval","metrics":{"eval_loss":0.5},"step":2}'
    (record.directory / "metrics.jsonl").write_text(line + "\n")
    assert record.evals() == [Measurement("eval", 2, {"eval_loss": 0.5})]
    assert Measurement("eval", 2, {"eval_loss": 0.5}).line() == line  # one without counts is written as before


def test_a_step_measured_again_counts_once(record: Record) -> None:
    written(record)
    again = Measurement("eval", 4, {"eval_loss": 9.0})
    record.append(again)
    assert record.evals()[1] == again
    assert len(record.evals()) == 2


def test_forgetting_drops_later_steps_and_keeps_the_rest_to_the_bit(record: Record) -> None:
    path = written(record)
    before = path.read_text()
    record.forget_after(4)
    assert sorted(path.read_text().splitlines()) == sorted(before.splitlines())
    record.forget_after(3)
    assert {one.step for one in record.measurements()} == {2}
    record.forget_after(-1)
    assert record.measurements() == []


@example("a line\x85another\u2028and\x0ba third\r\n")
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
@REUSED_DIRECTORY
def test_samples_keep_any_model_output(record: Record, text: str) -> None:
    rows = [{"row": "a", "answer": text}, {"row": "b", "answer": "无关图片"}]
    record.write_samples(2, rows)
    assert record.samples(2) == rows


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: (path / "adapter.bin").write_bytes(b"\x04" * 99),
    "emptied": lambda path: (path / "adapter.bin").write_bytes(b""),
    "changed": lambda path: (path / "adapter.bin").write_bytes(b"\x05" * 100),
    "missing file": lambda path: (path / "adapter.bin").unlink(),
    "extra file": lambda path: (path / "more.bin").write_bytes(b"x"),
    "extra file below": lambda path: [(path / "sub").mkdir(), (path / "sub" / "more.bin").write_bytes(b"x")],
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "cut manifest": lambda path: (path / "manifest.json").write_bytes((path / "manifest.json").read_bytes()[:-10]),
    "manifest of another kind": lambda path: (path / "manifest.json").write_text("[]"),
    "manifest not UTF-8": lambda path: (path / "manifest.json").write_bytes(b"\xff\xfe\xfd"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_skipped_for_the_previous_one(record: Record, damage: str) -> None:
    checkpoint(record, 2)
    newest = checkpoint(record, 4)
    assert record.checkpoint_steps() == [4, 2]
    DAMAGE[damage](newest)
    assert record.checkpoint_steps() == [2]


def test_other_files_among_the_checkpoints_are_ignored(record: Record) -> None:
    checkpoint(record, 2)
    (record.directory / "checkpoints" / "step-2.bak").mkdir()
    assert record.checkpoint_steps() == [2]


def test_checkpoints_are_ordered_by_number_and_old_ones_go(record: Record) -> None:
    for step in (2, 10, 9):
        checkpoint(record, step)
    assert record.checkpoint_steps() == [10, 9, 2]
    record.keep_checkpoints(2)
    assert record.checkpoint_steps() == [10, 9]
    assert not record.checkpoint(2).exists()


def test_an_exception_while_saving_leaves_the_old_checkpoint(record: Record) -> None:
    old = checkpoint(record, 2)
    before = (old / "adapter.bin").read_bytes()
    with pytest.raises(OSError, match="disk"), record.saving("checkpoints/step-2") as directory:
        (directory / "adapter.bin").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "disk full")
    assert is_whole(old)
    assert (old / "adapter.bin").read_bytes() == before
    checkpoint(record, 2)
    assert {path.name for path in (old / "..").resolve().iterdir()} == {"step-2"}


def test_a_crash_before_the_rename_leaves_the_old_checkpoint(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    old = checkpoint(record, 2)
    before = (old / "adapter.bin").read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(record_module, "replace_directory", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoint(record, 4)
        with pytest.raises(KeyboardInterrupt):
            checkpoint(record, 2)
    assert record.checkpoint_steps() == [2]
    assert (old / "adapter.bin").read_bytes() == before


def test_a_crash_before_the_rename_leaves_the_old_text(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    path = record.directory / "file.json"
    write_json(path, {"old": 1})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_json(path, {"new": 2})
    assert record_module.read_json(path) == {"old": 1}


def test_best_is_read_from_its_provenance_and_only_when_whole(record: Record) -> None:
    assert record.best() is None
    with record.saving("best") as directory:
        write_json(directory / "provenance.json", {"step": 4, "metrics": {"eval_loss": 0.25}})
        (directory / "adapter.bin").write_bytes(b"weights")
    assert record.best() == Measurement("eval", 4, {"eval_loss": 0.25})
    (record.directory / "best" / "adapter.bin").write_bytes(b"another")
    assert record.best() is None


def test_a_verdict_ends_a_record_until_it_is_reopened(record: Record) -> None:
    assert record.verdict() is None
    verdict = Verdict(kind="pruned", step=4, cause="irrelevant_pass", reason="0.71 < 0.80")
    record.close(verdict)
    assert record.verdict() == verdict
    assert str(verdict) == "pruned(irrelevant_pass)"
    record.close(verdict.model_copy(update={"value": 0.71, "limit": 0.8}))
    assert (kept := record.verdict()) is not None and (kept.value, kept.limit) == (0.71, 0.8)
    old = {"kind": "pruned", "step": 4, "cause": "irrelevant_pass", "reason": "0.71 < 0.80"}  # of an earlier version
    write_json(record.directory / "verdict.json", old)
    assert record.verdict() == verdict
    record.reopen()
    record.reopen()
    assert record.verdict() is None


def test_a_record_keeps_its_first_spec_and_is_found_by_name(tmp_path: Path, make_spec: SpecMaker) -> None:
    records = [Record(tmp_path / name) for name in ("b", "a")]
    for one in records:
        one.create(make_spec(name="first"))
        one.create(make_spec(name="second"))
    (tmp_path / "no-record").mkdir()
    assert [one.name for one in records_under(tmp_path)] == ["a", "b"]
    assert records[0].spec().name == "first"


def test_the_newest_eval_is_read_alone_and_a_damaged_line_after_it_is_named(tmp_path: Path) -> None:
    record = Record(tmp_path)
    path = tmp_path / "metrics.jsonl"
    assert newest_eval(path, "restore it") is None
    for step in (10, 20):
        record.append(Measurement("eval", step, {"eval_loss": 1.0 / step}))
        record.append(Measurement("train", step, {"step_loss": 1.0}))
    assert newest_eval(path, "restore it") == record.evals()[-1]
    lines = path.read_text().split("\n")
    path.write_text("\n".join([lines[0].replace("10", "11"), *lines[1:]]))
    assert newest_eval(path, "restore it") == Measurement("eval", 20, {"eval_loss": 0.05}), "the first is not read"
    path.write_text("\n".join([*lines[:3], lines[3].replace("20", "21"), ""]))
    with pytest.raises(FileDamaged, match=r"metrics\.jsonl:4: every line must match its checksum"):
        newest_eval(path, "restore it")
