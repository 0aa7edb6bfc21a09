"""Tests that searches and stages hold out what they split off their own rows, and that no eval asks it."""

from __future__ import annotations

import json
from pathlib import Path

from rows_to_split import written

from sweeps.curriculum import STUDY as CURRICULUM
from sweeps.execution.holdout_file import holdout_of_stages
from sweeps.execution.launch_data import gather_for
from sweeps.execution.options import Launch
from sweeps.planning.holdout import gather_holdout
from sweeps.planning.sources import Begun, Sources
from sweeps.search import SEARCH
from sweeps.stages.curriculum import CurriculumInput, curriculum
from trainables.data.rows import read_validation
from trainables.mini import BASE_DIRECTORY


def trained(directory: Path, first: int) -> Path:
    """Write training rows that are in no other file."""
    path = directory / "train.jsonl"
    rows = (f'{{"id": "t{number}", "prompt": "t {number}", "response": "r"}}' for number in range(first, first + 20))
    path.write_text("\n".join(rows) + "\n")
    return path


def pictured(directory: Path) -> tuple[Path, Path]:
    """Write rows to split, those of validation with a picture, which a base that sees needs."""
    validation, ood = written(directory, 200)
    picture = str(next(iter(sorted((directory / "images").iterdir()))).relative_to(directory))
    rows = [json.loads(line) for line in validation.read_text().splitlines()]
    rows = [{**row, "prompt": f"<image>{row['prompt']}", "images": [picture]} for row in rows]
    validation.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return validation, ood


def is_held_out(sources: Sources) -> bool:
    beside = sources.ood.path.parent
    asked, held = (read_validation(path) for path in (sources.validation.path, beside / "test.jsonl"))
    return (len(asked), len(held)) == (15, 5)


def test_a_search_splits_a_holdout_off_its_rows(tmp_path: Path) -> None:
    validation, ood = pictured(tmp_path / "own")
    launch = Launch(base=str(BASE_DIRECTORY), train=trained(tmp_path / "own", 0), validation=validation, ood=ood)
    whole = gather_for(SEARCH.study, launch, tmp_path / "data", Begun())
    assert whole.validation.path == validation and not whole.dropped
    split = Launch(**{**vars(launch), "split_holdout": True})
    found = gather_for(SEARCH.study, split, tmp_path / "data", Begun())
    assert is_held_out(found) and found.dropped.startswith("Held out: 5 of 20 validation rows")
    assert gather_holdout(None, None, found, own_rows=False) is not None


def test_the_holdout_of_stages_is_split_off_the_last_and_asked_by_none(tmp_path: Path) -> None:
    files = []
    for number, name in enumerate(("one", "two")):
        validation, ood = pictured(tmp_path / name)
        row = f"train: {trained(tmp_path / name, 100 * number)}\nvalidation: {validation}\nood: {ood}\n"
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(row + "lora: {r: 4, language_layers: 2}\n" + "prev_checkpoint: one\n" * number)
    launch = Launch(base=str(BASE_DIRECTORY), split_holdout=True)
    staged = curriculum(CURRICULUM, CurriculumInput(tuple(files), fixed={"steps": 8}), launch, tmp_path / "runs/data")
    sources = [stage.sources for stage in staged.stages]
    assert all(map(is_held_out, sources))
    held = holdout_of_stages(sources, launch)
    assert held is not None and held.test.path == sources[-1].ood.path.parent / "test.jsonl"
    assert holdout_of_stages(sources, Launch(ood=tmp_path / "own.jsonl")) is None
