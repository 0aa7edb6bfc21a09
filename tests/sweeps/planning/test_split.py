"""Tests that a holdout is split off by content: the same rows are held out in any order, a quarter of each kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rows_to_split import written

from sweeps.planning.holdout import gather_holdout
from sweeps.planning.sources import gather
from sweeps.planning.split import held_out, split_off
from trainables.data.ood import needed_kinds, read_ood
from trainables.data.rows import read_validation
from trainables.errors import UserError


def test_the_same_rows_are_held_out_in_any_order(tmp_path: Path) -> None:
    sides = []
    for seed in (0, 1):
        split = split_off(*written(tmp_path / str(seed), 200, seed), tmp_path / f"out-{seed}")
        beside = split.ood.parent
        asked, held = (read_ood(beside / name, needed_kinds(True)) for name in ("ood.jsonl", "ood-test.jsonl"))
        kinds = {kind: (sum(r.kind == kind for r in asked), sum(r.kind == kind for r in held)) for kind in
                 ("irrelevant", "caption", "text")}  # fmt: skip
        assert kinds == {"irrelevant": (150, 50), "caption": (4, 1), "text": (9, 3)}
        assert not {row.row_id for row in asked} & {row.row_id for row in held}
        assert [len(read_validation(beside / name)) for name in ("val.jsonl", "test.jsonl")] == [15, 5]
        assert split.summary.startswith("Held out: 5 of 20 validation rows and 54 of 217 out-of-distribution rows")
        sides.append({row.row_id for row in held} | {row.row_id for row in read_validation(beside / "test.jsonl")})
    assert sides[0] == sides[1]


def test_rows_that_repeat_a_question_are_not_parted(tmp_path: Path) -> None:
    validation, ood = written(tmp_path / "rows", 200)
    rows = [json.loads(line) for line in ood.read_text().splitlines()]
    pictures = sorted(one["images"][0] for one in rows if one["kind"] == "irrelevant")[:7]
    for number, row in enumerate(row for row in rows if row["kind"] == "irrelevant"):
        row.update(prompt="what is this?", images=[pictures[number % 7]])
    ood.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = tmp_path / "rows" / "train.jsonl"
    for path, name, count in ((train, "t", 9), (validation, "v", 20)):
        asks = [{"id": f"{name}{n}", "prompt": f"<image>{name} {n}", "response": "r", "images": pictures[:1]}
                for n in range(count)]  # fmt: skip
        path.write_text("".join(json.dumps(row) + "\n" for row in asks))
    split = split_off(validation, ood, tmp_path / "holdout")
    beside = split.ood.parent
    asked, held = (read_ood(beside / name, needed_kinds(True)) for name in ("ood.jsonl", "ood-test.jsonl"))
    shown = [{row.images[0].read_bytes() for row in side if row.kind == "irrelevant"} for side in (asked, held)]
    assert not shown[0] & shown[1] and len(shown[0] | shown[1]) == 7
    assert 0 < sum(row.kind == "irrelevant" for row in held) <= 50
    sources = gather(None, train, split.validation, split.ood, tmp_path / "mini")
    holdout = gather_holdout(None, None, sources, own_rows=False)
    assert holdout is not None and holdout.test.path == beside / "test.jsonl"


def test_the_smallest_content_is_held_out_where_none_fits_in_a_quarter() -> None:
    rows = ["a"] * 5 + ["b"] * 4
    assert held_out(rows, str, lambda row: "") == [False] * 5 + [True] * 4
    with pytest.raises(UserError, match="must have two different rows to be split, but validation has one"):
        held_out(["a", "a"], str, lambda row: "")


def test_too_few_rows_are_not_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="200 irrelevant rows or more, but there are 199"):
        split_off(*written(tmp_path / "few", 199), tmp_path / "out")
    with pytest.raises(UserError, match="splits your own rows"):
        split_off(None, None, tmp_path / "out")
    with pytest.raises(UserError, match="must have two different rows to be split, but text has one"):
        held_out([1, 2, 3], str, lambda row: "text" if row == 3 else "caption")
    assert not (tmp_path / "out").exists()
