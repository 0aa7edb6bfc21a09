"""Tests that engines of a node use one copy of a base, with the results of a base that each loads for itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.frozen.facts import facts_of
from trainables.io.checksums import verified, with_checksum
from trainables.mini import BASE_DIRECTORY
from trainables.model import shared_files, shared_weights
from trainables.model.base import Base, load_base
from trainables.model.checksums import base_checksums
from trainables.model.shared_files import node_directory
from trainables.model.shared_weights import SharedWeights, end_sharing, weights_key
from trainables.progress import reporting

CPU = torch.device("cpu")
IDS = torch.arange(40)[None] + 5


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shared_weights, "LEAST_BYTES", 0)
    return node_directory()


def sharing(quantization: Any = "none", resident: Any = "auto", base: str = "digest", launch: str = "launch",
            check: Callable[[], None] = lambda: None) -> SharedWeights:  # fmt: skip
    return SharedWeights(weights_key(base, quantization, "float32", resident, launch), check)


def loaded(shared: SharedWeights | None, quantization: Any = "none", resident: Any = "auto",
           base: Path = BASE_DIRECTORY) -> Base:  # fmt: skip
    return load_base(base, quantization, "float32", CPU, resident, shared)


def logits(base: Base) -> torch.Tensor:
    with torch.no_grad():
        return base.model(input_ids=IDS).logits


def files(directory: Path) -> list[str]:
    return sorted(one.suffix for one in directory.iterdir()) if directory.exists() else []


def refuse(*_: Any) -> None:
    raise AssertionError("the base was loaded again")


@pytest.mark.parametrize(
    ("quantization", "resident", "residency"),
    [
        ("none", "auto", "unquantized"),
        ("nf4-double", "quantized", "quantized"),
        pytest.param("int8", "auto", "quantized", marks=pytest.mark.slow),
        pytest.param("nf4-double", "dequantized", "dequantized", marks=pytest.mark.slow),
        pytest.param("nf4", "quantized", "quantized", marks=pytest.mark.slow),
        pytest.param("fp4", "quantized", "quantized", marks=pytest.mark.slow),
    ],
)
def test_the_second_engine_loads_nothing_and_computes_the_same(
    quantization: str, resident: str, residency: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = loaded(None, quantization, resident)
    first, second = sharing(quantization, resident), sharing(quantization, resident)
    one = loaded(first, quantization, resident)
    monkeypatch.setattr("trainables.model.base.load_model", refuse)
    other = loaded(second, quantization, resident)
    assert (first.origin, second.origin) == ("shared, and loaded here", "shared")
    assert plain.residency == one.residency == other.residency == residency
    assert plain.megabytes == one.megabytes == other.megabytes
    assert base_checksums(plain.model) == base_checksums(one.model) == base_checksums(other.model)
    expected = logits(plain)
    assert torch.equal(logits(one), expected) and torch.equal(logits(other), expected)
    assert is_mapped(one, first.path) and is_mapped(other, first.path)
    assert other.model.lm_head.weight is other.decoder.embed_tokens.weight
    first.end()
    assert ".weights" in files(directory), "another engine uses it"
    second.end()
    assert files(directory) == []
    assert torch.equal(logits(other), expected), "what is mapped stays"


def is_mapped(base: Base, path: Path) -> bool:
    """True when every weight of the base lies in the pages of a file in the directory of `path`."""
    ranges = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        if str(path.parent) in line:
            begin, end = line.split()[0].split("-")
            ranges.append((int(begin, 16), int(end, 16)))
    return all(any(low <= one.data_ptr() < high for low, high in ranges) for one in base.model.parameters())


def test_an_adapter_trains_to_the_same_bits(directory: Path) -> None:
    from peft import LoraConfig, get_peft_model

    found = []
    for shared in (None, sharing("nf4", "quantized"), sharing("nf4", "quantized")):
        base = loaded(shared, "nf4", "quantized")
        torch.manual_seed(0)
        adapted = get_peft_model(base.model, LoraConfig(r=4, target_modules=r".*language_model.*(q_proj|down_proj)"))
        trained = [one for one in adapted.parameters() if one.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-2)
        for _ in range(2):
            optimizer.zero_grad()
            adapted(input_ids=IDS, labels=IDS).loss.backward()
            optimizer.step()
        found.append([one.detach().clone() for one in trained])
    assert any(bool(one.any()) for one in found[0])
    for other in found[1:]:
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found[0], other, strict=True))


def test_a_weight_that_one_engine_writes_to_stays_as_it_is_for_the_others(directory: Path) -> None:
    first, second = sharing(), sharing()
    one, other = loaded(first), loaded(second)
    before = logits(other)
    with torch.no_grad():
        one.decoder.embed_tokens.weight.zero_()
    assert torch.equal(logits(other), before)
    assert torch.equal(logits(loaded(sharing())), before)


@pytest.mark.parametrize(
    "what",
    ["a byte", "a table of another version",
     *(pytest.param(one, marks=pytest.mark.slow) for one in ("cut off", "the table", "another table"))],
)  # fmt: skip
def test_a_damaged_or_foreign_file_is_loaded_the_plain_way(what: str, directory: Path) -> None:
    first = sharing()
    expected = logits(loaded(first))
    table = first.path.with_suffix(".json")
    kept = (first.path.read_bytes(), table.read_text())
    first.release()
    first.path.write_bytes(kept[0])
    table.write_text(kept[1])
    if what == "a byte":
        first.path.write_bytes(kept[0][:-300] + bytes([kept[0][-300] ^ 1]) + kept[0][-299:])
    elif what == "cut off":
        first.path.write_bytes(kept[0][:1000])
    elif what == "the table":
        table.write_text(kept[1].replace("float32", "float16", 1))
    else:
        body = verified(kept[1])
        assert body is not None
        table.write_text(with_checksum({**body, "key": "0"} if what == "another table" else {"version": 0}))
    again = sharing()
    assert torch.equal(logits(loaded(again)), expected)
    assert again.origin == "shared, and loaded here"
    assert verified(table.read_text())["places"]  # type: ignore[index]


def test_what_decides_the_weights_has_a_file_of_its_own() -> None:
    settings: Any = (
        ("a", "nf4", "float32", "auto", "1"), ("b", "nf4", "float32", "auto", "1"),
        ("a", "fp4", "float32", "auto", "1"), ("a", "nf4", "bfloat16", "auto", "1"),
        ("a", "nf4", "float32", "quantized", "1"),
        ("a", "nf4", "float32", "auto", "2"),
    )  # fmt: skip
    keys = {weights_key(*one) for one in settings}
    assert len(keys) == 6
    assert json.loads(next(iter(keys)))["versions"].keys() == {"torch", "transformers", "bitsandbytes"}


def without_room(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**9, "total": 10**10 - 10**7}))


def without_memory(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    needed = sum(one.nbytes + 64 for one in loaded(None).model.state_dict().values())
    monkeypatch.setattr("trainables.model.shared_weights.free_bytes", lambda _: int(1.9 * needed))


def open_to_others(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    directory.mkdir(mode=0o755)


def a_link(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    target = directory.with_name("elsewhere")
    target.mkdir(mode=0o700)
    directory.symlink_to(target)


def not_rebuilt(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    from trainables.model import base

    original = base.rebuilt

    def faulty(stored: Any, quantization: Any, dtype: Any, tensors: Any) -> Any:
        return original(stored, quantization, dtype, {name: one.clone().zero_() for name, one in tensors.items()})

    monkeypatch.setattr(base, "rebuilt", faulty)


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (without_room, "has no room for 0.0"),
        (without_memory, "has no room for 0.0"),
        pytest.param(open_to_others, "must be a directory that only this user can enter", marks=pytest.mark.slow),
        (a_link, "must be a directory that only this user can enter"),
        (not_rebuilt, "does not make this model from its tensors"),
    ],
)
def test_where_no_file_can_be_the_base_is_loaded_as_ever_and_the_reason_is_said(
    prepare: Callable[[pytest.MonkeyPatch, Path], None], reason: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = logits(loaded(None))
    prepare(monkeypatch, directory)
    shared = sharing()
    assert torch.equal(logits(loaded(shared)), expected)
    assert shared.origin.startswith("own: ") and reason in shared.origin
    assert files(directory) == []


@pytest.mark.slow
def test_files_that_a_killed_launch_left_are_removed_and_those_in_use_are_not(directory: Path) -> None:
    used = sharing(base="in use")
    loaded(used)
    code = (
        "import os, signal, tempfile\n"
        f"tempfile.tempdir = {str(directory.parent)!r}\n"
        "from trainables.model import shared_weights\n"
        "shared_weights.LEAST_BYTES = 0\n"
        "from test_shared_weights import sharing, loaded\n"
        "shared = sharing(base='killed')\n"
        "loaded(shared)\n"
        "shared.path.with_name('half.new').write_text('x')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert killed.returncode == -9
    left = {one.stem for one in directory.iterdir()}
    assert left == {used.path.stem, sharing(base="killed").path.stem, "half"}
    third = sharing(base="another")
    loaded(third)
    assert {one.stem for one in directory.iterdir()} == {used.path.stem, third.path.stem}


@pytest.mark.slow
def test_two_engines_at_once_load_one_time(directory: Path) -> None:
    code = (
        "import sys, tempfile\n"
        f"tempfile.tempdir = {str(directory.parent)!r}\n"
        "from trainables.model import shared_weights\n"
        "shared_weights.LEAST_BYTES = 0\n"
        "from test_shared_weights import sharing, loaded\n"
        "shared = sharing()\n"
        "loaded(shared)\n"
        "print(shared.origin, flush=True)\n"
        "sys.stdin.readline()\n"
    )
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    running = [
        subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]  # fmt: skip
    origins = sorted(one.stdout.readline().strip() for one in running if one.stdout)
    for one in running:
        one.communicate("\n")
    assert origins == ["shared", "shared, and loaded here"]


def test_a_small_base_is_not_shared(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(directory.parent))
    shared = sharing()
    loaded(shared)
    assert shared.origin == "own: a base below 64 MB is not shared" and files(directory) == []


def test_the_end_of_a_launch_leaves_what_another_one_looks_for(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = sharing()
    loaded(shared)
    other = sharing()
    with shared_files.alone(shared.path), shared_files.use(shared.path):
        monkeypatch.setattr(shared_weights, "END_SECONDS", 0.3)
        shared.end()
    assert files(directory) == [".json", ".lock", ".weights"]
    loaded(other)
    assert other.origin == "shared"
    end_sharing(None)
    assert files(directory) == [".json", ".lock", ".weights"], "another engine uses it"
    other.release()
    end_sharing(None)
    assert files(directory) == []


def test_bad_input_is_refused_as_ever_and_holds_nobody_up(directory: Path, tmp_path: Path) -> None:
    from trainables.errors import UserError

    with pytest.raises(UserError, match=r"config\.json"):
        loaded(sharing(), base=tmp_path)
    loaded(sharing())


@pytest.mark.slow
def test_every_family_is_rebuilt_from_its_tensors(directory: Path, tmp_path: Path) -> None:
    from tiny_families import TINY_SEEING, TINY_TEXT, write_base, write_vision_base
    from tiny_sequential import TINY_SEQUENTIAL, write_sequential_base

    writers = {**dict.fromkeys(TINY_TEXT, write_base), **dict.fromkeys(TINY_SEEING, write_vision_base),
               **dict.fromkeys(TINY_SEQUENTIAL, write_sequential_base)}  # fmt: skip
    for family, write in writers.items():
        path = write(family, tmp_path / family)
        plain, shared = loaded(None, base=path), sharing(base=family)
        loaded(shared, base=path)
        other = sharing(base=family)
        again = loaded(other, base=path)
        assert (shared.origin, other.origin) == ("shared, and loaded here", "shared"), family
        assert torch.equal(logits(again), logits(plain)), family
        assert base_checksums(again.model) == base_checksums(plain.model), family


def test_no_other_launch_node_or_version_has_the_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, path = sharing(), sharing().path
    loaded(first)
    other = sharing(launch="another")
    loaded(other)
    assert other.origin == "shared, and loaded here" and other.path != path and path.exists()
    end_sharing(other)
    assert path.exists() and not other.path.exists(), "another launch uses it"
    monkeypatch.setattr(shared_weights, "code_digest", lambda: "of another version")
    assert sharing().path != path
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(directory.parent))
    monkeypatch.setattr("platform.node", lambda: "another/node")
    assert sharing().path.parent.parent == directory.parent and sharing().path.parent != directory
    end_sharing(None)
    assert path.exists()


def test_what_is_let_go_stays_until_the_next_load_of_any_launch(directory: Path) -> None:
    first = sharing()
    loaded(first)
    first.release()
    assert ".weights" in files(directory)
    again = sharing()
    loaded(again)
    assert again.origin == "shared"
    again.release()
    third = sharing(launch="another")
    loaded(third)
    assert {one.stem for one in directory.iterdir()} == {third.path.stem}


def test_two_engines_that_end_at_once_leave_no_file(directory: Path) -> None:
    for _ in range(3):
        both = [sharing(), sharing()]
        for one in both:
            loaded(one)
        together = [threading.Thread(target=end_sharing, args=(one,)) for one in both]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        assert files(directory) == []


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": None}, {"places": None}, {"places": [{"name": "x"}]}, {"residency": None}, {"megabytes": []},
        {"places": [{"name": "x", "dtype": "float99", "shape": [1], "offset": 0}]},
        {"places": [{"name": "x", "dtype": "float32", "shape": [10**12], "offset": 0}]},
        {"places": [{"name": "x", "dtype": "float32", "shape": ["x"], "offset": 0}]},
    ],
)  # fmt: skip
def test_a_table_of_another_kind_is_no_file(change: dict[str, Any], directory: Path) -> None:
    directory.mkdir(mode=0o700)
    shared = sharing()
    shared.path.write_bytes(bytes(64))
    table = {
        "key": shared.path.stem, "sha256": sha256(bytes(64)).hexdigest(), "residency": "unquantized", "megabytes": 1.0,
        "places": [{"name": "x", "dtype": "float32", "shape": [4], "offset": 0}],
    }  # fmt: skip
    named = shared.path.with_suffix(".json")
    named.write_text(with_checksum(table))
    assert shared._read(lambda tensors, residency: tensors) is not None
    shared.release()
    for missing in change:
        named.write_text(with_checksum({name: value for name, value in table.items() if name != missing}))
        assert shared._read(lambda tensors, residency: tensors if residency else None) is None
    named.write_text(with_checksum({**table, **change}))
    assert shared._read(lambda tensors, residency: tensors if residency else None) is None
    assert shared._held is None


def test_a_file_that_cannot_be_mapped_is_no_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(sharing())

    original = torch.UntypedStorage.from_file

    def refused(name: str, *given: Any, **named: Any) -> Any:
        if str(directory) in name:
            raise RuntimeError("unable to mmap")
        return original(name, *given, **named)

    monkeypatch.setattr(torch.UntypedStorage, "from_file", refused)
    shared = sharing()
    loaded(shared)
    assert shared.origin.startswith("own: ") and not shared.path.exists()


def test_a_base_that_changed_while_it_was_loaded_reaches_no_other_engine(directory: Path) -> None:
    seen: list[bool] = []

    def changed() -> None:
        seen.append(shared.path.exists())
        raise LookupError("the base has changed")

    shared = sharing(check=changed)
    with pytest.raises(LookupError):
        loaded(shared)
    assert seen == [False], "it is checked before any engine can map it"
    assert files(directory) == []


def test_who_waits_says_so_and_loads_alone_in_the_end(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_weights, "LOAD_SECONDS", 0.5)
    monkeypatch.setattr(shared_files, "SHOWN_SECONDS", 0.1)
    shared, said = sharing(), []
    directory.mkdir(mode=0o700)
    with shared_files.alone(shared.path), reporting(lambda part: said.append(part.text)):
        base = loaded(shared)
    assert "waiting for another engine to load the base" in said
    assert shared.origin.startswith("own: ") and "for another engine to load the base" in shared.origin
    assert torch.equal(logits(base), logits(loaded(None)))


def test_who_waits_gets_the_file_as_soon_as_it_is_there(directory: Path) -> None:
    shared = sharing()
    directory.mkdir(mode=0o700)
    entered = threading.Event()

    def hold() -> None:
        with shared_files.alone(shared.path):
            entered.set()
            time.sleep(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    loaded(shared)
    thread.join()
    assert shared.origin == "shared, and loaded here"


def test_kept_activations_of_a_dequantized_base_are_found_by_who_shares_it(directory: Path) -> None:
    plain = loaded(None, "nf4", "dequantized")
    other = sharing("nf4", "dequantized")
    shared = loaded(other, "nf4", "dequantized")
    assert other.origin == "shared, and loaded here"
    assert facts_of(plain) == facts_of(shared)
