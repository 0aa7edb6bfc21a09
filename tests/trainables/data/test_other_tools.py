"""Tests rows as other tools write them: read as they mean them, or refused by what they are; and joined files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from trainables.data.duplicates import digest_of
from trainables.data.formats import Message
from trainables.data.joined_files import absolute
from trainables.data.normalize import normalize_row
from trainables.data.rows import parse_rows, read_rows
from trainables.errors import UserError

FILES = Path(__file__).parent / "files"
SPOKEN = [{"role": "user", "content": "Second?"}, {"role": "assistant", "content": "two"}]
EARLIER = [{"role": "user", "content": "First?"}, {"role": "assistant", "content": "one"}]
SECOND = (Message("user", "Second?"), Message("assistant", "two"))
FIRST = (Message("user", "First?"), Message("assistant", "one"))
BRIEF = (Message("system", "Be brief."),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FILES, tmp_path / "data"))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "Second?", "completion": "two"}, SECOND),
        ({"prompt": SPOKEN[:1], "completion": SPOKEN[1:]}, SECOND),
        ({"prompt": [*EARLIER, SPOKEN[0]], "completion": SPOKEN[1:]},
         (FIRST[0], Message("assistant", "one", supervised=False), *SECOND)),
        ({"query": "Second?", "response": "two"}, SECOND),
        ({"system": "Be brief.", "query": "Second?", "response": "two", "history": [["First?", "one"]]},
         (*BRIEF, *FIRST, *SECOND)),
        ({"query": "Second?", "response": "two", "history": [], "system": None}, SECOND),
        ({"system": "Be brief.", "conversation": [{"human": "First?", "assistant": "one"},
                                                  {"human": "Second?", "assistant": "two"}]},
         (*BRIEF, *FIRST, *SECOND)),
        ({"conversation": [{"from": "human", "value": "Second?"}, {"from": "gpt", "value": "two"}]}, SECOND),
        ({"messages": [{"role": "developer", "content": "Be brief."}, *SPOKEN]}, (*BRIEF, *SECOND)),
        ({"system": "Be brief.", "messages": SPOKEN}, (*BRIEF, *SECOND)),
        ({"conversations": [{"from": "human", "value": [{"type": "text", "value": "Second?"}]},
                            {"from": "gpt", "value": "two"}]}, SECOND),
        ({"messages": [EARLIER[0], EARLIER[1] | {"weight": 0}, *SPOKEN]},
         (FIRST[0], Message("assistant", "one", supervised=False), *SECOND)),
        ({"messages": [EARLIER[0], EARLIER[1] | {"loss": False}, SPOKEN[0], SPOKEN[1] | {"loss": True}]},
         (FIRST[0], Message("assistant", "one", supervised=False), *SECOND)),
        ({"messages": [turn | {"tool_calls": None} for turn in SPOKEN], "tools": [], "videos": []}, SECOND),
    ],
)  # fmt: skip
def test_rows_of_other_tools_are_read_as_they_mean_them(row: dict[str, Any], expected: Any) -> None:
    assert normalize_row(row, "rows.jsonl:1").messages == expected


@pytest.mark.parametrize(
    "images",
    ["lamp.png", ["lamp.png"], [{"path": "lamp.png"}], {"path": "lamp.png", "bytes": None}, [{"url": "lamp.png"}]],
)
def test_images_are_a_text_a_list_or_objects_with_a_path(images: Any) -> None:
    row = {"prompt": "<image>What?", "response": "a lamp", "images": images}
    assert normalize_row(row, "rows.jsonl:1").images == ("lamp.png",)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preferences"),
        ({"chosen": SPOKEN, "rejected": SPOKEN}, "preferences"),
        ({"messages": SPOKEN, "rejected_response": "c"}, "preferences"),
        ({"conversations": SPOKEN, "chosen": SPOKEN[1], "rejected": SPOKEN[1]}, "preferences"),
        ({"instruction": "a", "output": ["b", "c"]}, "preferences"),
        ({"prompt": "a", "response": "b", "chosen_reward": 3}, "preferences"),
        ({"messages": SPOKEN, "label": False}, "rates the answer"),
        ({"prompt": "a", "completion": "b", "label": True}, "rates the answer"),
        ({"messages": SPOKEN, "kto_tag": True}, "rates the answer"),
        ({"messages": SPOKEN, "tools": [{"name": "f"}]}, "tool calls"),
        ({"messages": [SPOKEN[0], {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]}, "tool calls"),
        ({"messages": [*SPOKEN, {"role": "tool", "content": "x"}]}, "tool calls"),
        ({"conversations": [{"from": "function_call", "value": "{}"}]}, "tool calls"),
        ({"messages": [SPOKEN[0], SPOKEN[1] | {"reasoning_content": "add"}]}, "holds reasoning apart"),
        ({"messages": [SPOKEN[0], SPOKEN[1] | {"thinking": "add"}]}, "holds reasoning apart"),
        ({"prompt": "a", "response": "b", "reasoning": "add"}, "holds reasoning apart"),
        ({"messages": SPOKEN, "videos": ["v.mp4"]}, "video or audio"),
        ({"messages": SPOKEN, "audios": ["a.wav"]}, "video or audio"),
        ({"messages": SPOKEN, "objects": {"bbox": [[1, 2, 3, 4]]}}, "holds boxes apart"),
        ({"messages": SPOKEN, "chat_template_kwargs": {"max_pixels": 4}}, "for one row"),
    ],
)
def test_rows_of_another_kind_are_refused_by_what_they_are(row: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError) as caught:
        normalize_row(row, "rows.jsonl:1")
    assert what in caught.value.message
    assert caught.value.hint
    assert "metadata" not in str(caught.value) and "did you mean" not in str(caught.value)


@pytest.mark.parametrize("key", ["category", "score", "difficulty", "contents", "answer"])
def test_a_hint_names_no_key_that_only_looks_alike(key: str) -> None:
    with pytest.raises(UserError) as caught:
        normalize_row({"prompt": "a", "response": "b", key: "x"}, "rows.jsonl:1")
    assert "did you mean" not in (caught.value.hint or "")


def test_an_entry_without_columns_is_read_as_llamafactory_reads_it(folder: Path) -> None:
    """Neither history nor system nor images, unless the entry names them."""
    row = {
        "instruction": "Second?",
        "input": "Now.",
        "output": "two",
        "history": [["First?", "one"]],
        "system": "Count.",
    }
    (folder / "alpaca.json").write_text(json.dumps([row]), encoding="utf-8")
    [read] = read_rows(folder / "dataset_info.json:alpaca")
    assert read.messages == (Message("user", "Second?\nNow."), Message("assistant", "two"))
    [parsed] = parse_rows(folder / "dataset_info.json:alpaca")
    assert parsed.unread == ("history", "system")
    turns = [{"from": "human", "value": "Second?"}, {"from": "gpt", "value": "two"}]
    (folder / "sharegpt.json").write_text(json.dumps([{"conversations": turns, "system": "Count."}]), encoding="utf-8")
    assert read_rows(folder / "dataset_info.json:conversations")[0].messages == SECOND
    (folder / "sharegpt.json").write_text(json.dumps([{"conversations": SPOKEN}]), encoding="utf-8")
    with pytest.raises(UserError, match="must be {from: human | gpt | system, value: text}".replace("|", r"\|")):
        read_rows(folder / "dataset_info.json:conversations")


def test_a_row_that_llamafactory_leaves_out_is_refused(folder: Path) -> None:
    speakers = ["human", "human", "gpt"]
    rows = [{"conversations": [{"from": one, "value": "a"} for one in speakers]}]
    (folder / "sharegpt.json").write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(UserError, match="`conversations` must hold questions and answers in turn") as caught:
        read_rows(folder / "dataset_info.json:conversations")
    assert "LLaMA-Factory leaves such a row out" in (caught.value.hint or "")


# -------------------------------------------------------------------- joined files
def test_files_joined_by_commas_follow_one_another(folder: Path) -> None:
    both = read_rows(Path(f"{folder}/prompt.jsonl,{folder}/text.jsonl"))
    assert [row.row_id for row in both] == ["prompt:lamp", "prompt:sum", "text:1", "text:2"]
    alone = [*read_rows(folder / "prompt.jsonl"), *read_rows(folder / "text.jsonl")]
    assert [row.messages for row in both] == [row.messages for row in alone]
    entries = read_rows(Path(f"{folder}/dataset_info.json:documents,foreign"))
    assert [row.row_id for row in entries] == ["documents:1", "documents:2", "foreign:2", "foreign:5"]
    twins = Path(f"{folder}/prompt.jsonl,{shutil.copytree(folder, folder / 'copy')}/prompt.jsonl")
    assert [row.row_id for row in read_rows(twins)][::2] == ["prompt:lamp", "prompt-2:lamp"]


def test_joined_files_are_made_absolute_and_hashed_one_by_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    path = absolute(Path("prompt.jsonl,dataset_info.json:documents"))
    assert str(path) == f"{folder}/prompt.jsonl,{folder}/dataset_info.json:documents"
    before = digest_of(path)
    assert before not in (
        digest_of(folder / "prompt.jsonl"),
        digest_of(Path("dataset_info.json:documents,prompt.jsonl")),
    )
    (folder / "text.jsonl").write_text('{"text": "other"}', encoding="utf-8")
    assert digest_of(path) != before
    with pytest.raises(UserError, match=r"no.jsonl does not"):
        read_rows(Path("prompt.jsonl,no.jsonl"))
    with pytest.raises(UserError, match="must differ"):
        read_rows(Path("prompt.jsonl,prompt.jsonl"))
    (folder / "a,b.jsonl").write_text('{"text": "one file"}', encoding="utf-8")
    assert [row.row_id for row in read_rows(Path("a,b.jsonl"))] == ["1"]
