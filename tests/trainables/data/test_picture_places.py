"""Tests that no data file reads a picture outside its own directory, and no table a file: by no path and no link."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sweeps.planning.holdout import gather_holdout
from sweeps.planning.sources import Sources, gather
from sweeps.planning.split import split_off
from trainables.data.check import check_file
from trainables.data.filtered_file import filter_into, write_filtered
from trainables.data.filters import parse_filters
from trainables.data.rows import read_rows
from trainables.data.system_turn import write_with_system_turn
from trainables.errors import UserError
from trainables.evaluation.held_out import check_rows_fit, sampled_rows
from trainables.io.places import VARIABLE
from trainables.mini import BASE_DIRECTORY

KINDS = ("irrelevant", "caption", "text")
ROLES = ("train", "validation", "ood", "test", "ood_test")


def picture(path: Path, shade: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (shade, 0, 0)).save(path)
    return f"images/{path.name}"


def question(data: Path, name: str, kind: str, shade: int) -> dict[str, Any]:
    shown = {} if kind == "text" else {"images": [picture(data / f"images/{name}.png", shade)]}
    return {"id": name, "kind": kind, "prompt": f"Report {name}.", "expect": "no", **shown}


def rows_of(data: Path, role: str, shade: int) -> list[dict[str, Any]]:
    if role.startswith("ood"):
        count = 200 if role == "ood" else 1  # so many that a holdout can be split off
        pairs = [(f"{role}-{kind}-{n}", kind, n) for kind in KINDS for n in range(count if kind == "irrelevant" else 2)]
        return [question(data, name, kind, (shade + n) % 256) for name, kind, n in pairs]
    names = [f"{role}-{n}" for n in range(4)]
    return [
        {"id": name, "prompt": f"<image>What is {name}?", "response": "red",
         "images": [picture(data / f"images/{name}.png", shade + n)]}
        for n, name in enumerate(names)
    ]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write a file for each role, with every picture below its directory."""
    directory = tmp_path / "data"
    for number, role in enumerate(ROLES):
        write(directory / f"{role}.jsonl", rows_of(directory, role, 10 * number))
    return directory


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def by_parents(data: Path, secret: Path) -> str:
    return f"images/../../{secret.parent.name}/{secret.name}"


def by_absolute_path(data: Path, secret: Path) -> str:
    return str(secret)


def by_address(data: Path, secret: Path) -> str:
    return secret.as_uri()


def by_link(data: Path, secret: Path) -> str:
    (data / "images/link.png").symlink_to(secret)
    return "images/link.png"


def by_linked_directory(data: Path, secret: Path) -> str:
    (data / "images/more").symlink_to(secret.parent, target_is_directory=True)
    return f"images/more/{secret.name}"


WAYS: tuple[Callable[[Path, Path], str], ...] = (by_parents, by_absolute_path, by_address, by_link, by_linked_directory)


def gathered(data: Path) -> Sources:
    return gather(str(BASE_DIRECTORY), *(data / f"{role}.jsonl" for role in ROLES[:3]), data.parent / "own/data")


def held(data: Path) -> object:
    return gather_holdout(data / "test.jsonl", data / "ood_test.jsonl", gathered(data), True)


def checked(role: str) -> Callable[[Path], None]:
    def check(data: Path) -> None:
        problems = check_file(data / f"{role}.jsonl").problems
        if problems:
            raise UserError(*problems[0].split("\nhint: "))

    return check


def validated(data: Path) -> None:
    check_rows_fit(sampled_rows(data / "validation.jsonl", 0, 0), BASE_DIRECTORY)


def split(data: Path) -> object:
    return split_off(data / "validation.jsonl", data / "ood.jsonl", data.parent / "own/holdout")


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a launch, its training rows": ("train", gathered),
    "a launch, its validation rows": ("validation", gathered),
    "a launch, its out-of-distribution rows": ("ood", gathered),
    "a launch, its holdout": ("test", held),
    "a launch, the questions of its holdout": ("ood_test", held),
    "a split": ("validation", split),
    "a split of questions": ("ood", split),
    "an import with a system turn": ("train", lambda data: write_with_system_turn(
        data / "train.jsonl", "Inspect.", data.parent / "own/with_system_turn")),
    "--drop": ("train", lambda data: write_filtered(
        data / "train.jsonl", parse_filters("duplicates"), data.parent / "own/filtered")),
    "data filter": ("train", lambda data: filter_into(
        data / "train.jsonl", parse_filters("duplicates"), data.parent / "left.jsonl")),
    "data check": ("train", checked("train")),
    "data check of questions": ("ood", checked("ood")),
    "validate": ("validation", validated),
}  # fmt: skip


def plant(data: Path, role: str, way: Callable[[Path, Path], str]) -> Path:
    secret = data.parent / "private/secret.png"
    picture(secret, 255)
    path = data / f"{role}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["images"] = [way(data, secret)]
    write(path, rows)
    return secret


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_accepts_pictures_inside(reader: str, data: Path) -> None:
    READERS[reader][1](data)


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_a_picture_outside(reader: str, data: Path) -> None:
    role, read = READERS[reader]
    secret = plant(data, role, by_link)
    with pytest.raises(UserError) as caught:
        read(data)
    assert f"a picture must lie in {data}, but {secret} does not" in caught.value.message
    assert f"{role}.jsonl" in caught.value.message
    assert not (data.parent / "left.jsonl").exists()


@pytest.mark.parametrize("way", WAYS)
def test_there_is_no_way_out(way: Callable[[Path, Path], str], data: Path) -> None:
    secret = plant(data, "train", way)
    with pytest.raises(UserError, match="a picture must lie in") as caught:
        checked("train")(data)
    assert str(secret) in caught.value.message


def test_the_hint_opens_the_directory_and_no_other(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = plant(data, "train", by_parents)
    with pytest.raises(UserError) as caught:
        checked("train")(data)
    name, _, value = (caught.value.hint or "").rpartition("export ")[2].partition("=")
    assert (name, value) == (VARIABLE, str(secret.parent))
    monkeypatch.setenv(VARIABLE, f"{data.parent / 'other'}:{value}:")
    checked("train")(data)
    picture(data.parent / "private-too/secret.png", 3)
    rows = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]
    rows[0]["images"] = ["../private-too/secret.png"]
    write(data / "train.jsonl", rows)
    with pytest.raises(UserError, match=r"private-too/secret\.png does not"):
        checked("train")(data)


def test_a_directory_that_is_not_absolute_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "private")
    with pytest.raises(UserError, match="must name absolute directories, but got 'private'"):
        checked("train")(data)


def test_what_a_launch_wrote_of_its_data_is_read_by_it(data: Path) -> None:
    own = data.parent / "own"
    files = split_off(data / "validation.jsonl", data / "ood.jsonl", own / "holdout")
    left = write_filtered(data / "train.jsonl", parse_filters("duplicates"), own / "filtered")
    sources = gather(str(BASE_DIRECTORY), left.path, files.validation, files.ood, own / "data")
    assert sources.train_rows == 4
    assert gather_holdout(None, None, sources, False)


@pytest.mark.parametrize("name", ["../private/rows.json", "/etc/passwd", "link.json"])
def test_a_table_names_no_file_outside(name: str, data: Path) -> None:
    private = data.parent / "private/rows.json"
    private.parent.mkdir()
    private.write_text('[{"instruction": "a", "output": "b"}]')
    (data / "link.json").symlink_to(private)
    (data / "dataset_info.json").write_text(json.dumps({"mine": {"file_name": name}}))
    with pytest.raises(UserError, match=r"`file_name` must lie in .*, but .* does not"):
        read_rows(Path(f"{data}/dataset_info.json:mine"))
