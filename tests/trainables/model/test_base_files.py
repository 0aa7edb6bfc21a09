"""Tests that the digest of a base changes with every file that decides a result, and with no other."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from trainables.mini import BASE_DIRECTORY
from trainables.model.base_files import base_digest, deciding_files, digest_of_files, file_digests, is_same_base
from trainables.spec import Source

DECIDING = (
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json",
    "model-00001-of-00002.safetensors", "model.safetensors.index.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
    "qwen.tiktoken", "tekken.json", "chat_template.jinja", "chat_template.json",
    "additional_chat_templates/default.jinja", "processor_config.json", "video_preprocessor_config.json",
)  # fmt: skip
OTHERS = (
    "README.md", "LICENSE", ".gitattributes", "generation_config.json", "optimizer.safetensors", "optimizer.pt",
    "scheduler.pt", "rng_state.pth", "trainer_state.json", "training_args.bin", "pytorch_model.bin", "figures/1.png",
    "original/consolidated.00.pth", "notes.txt", ".cache/huggingface/download/config.json.metadata",
)  # fmt: skip


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BASE_DIRECTORY, tmp_path / "base"))


def change(base: Path, name: str) -> None:
    """Change one byte of a file, or write it if it is absent."""
    path = base / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = bytearray(path.read_bytes() if path.exists() else b"{}  ")
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", DECIDING)
def test_a_file_that_decides_a_result_changes_the_digest(name: str, base: Path) -> None:
    before = base_digest(base, 2)
    change(base, name)
    changed = base_digest(base, 2)
    assert changed != before
    (base / name).unlink()
    assert digest_of_files(file_digests(base)) != changed


@pytest.mark.parametrize("name", OTHERS)
def test_another_file_does_not(name: str, base: Path) -> None:
    before = base_digest(base, 2)
    change(base, name)
    assert base_digest(base, 2) == before


def test_more_pixels_of_a_picture_are_another_base(base: Path) -> None:
    before = base_digest(base, 2)
    values = json.loads((base / "preprocessor_config.json").read_text())
    values["size"] = {"longest_edge": 16384, "shortest_edge": 16384}
    (base / "preprocessor_config.json").write_text(json.dumps(values))
    assert base_digest(base, 2) != before


def test_weights_are_hashed_whole(base: Path) -> None:
    """A byte in the middle of a file above 64 MiB counts; format 1 reads only the edges of such a file."""
    weights = base / "model.safetensors"
    with weights.open("r+b") as file:
        file.truncate(70 * 2**20)  # sparse
    before, edges = base_digest(base, 2), base_digest(base, 1)
    with weights.open("r+b") as file:
        file.seek(35 * 2**20)
        file.write(b"\x01")
    assert base_digest(base, 2) != before
    assert base_digest(base, 1) == edges


def test_where_the_files_lie_does_not_matter(base: Path, tmp_path: Path) -> None:
    """A snapshot of the hub's cache consists of links."""
    links = tmp_path / "snapshot"
    links.mkdir()
    for path in base.iterdir():
        (links / path.name).symlink_to(path)
    assert file_digests(links) == file_digests(base)


def test_a_digest_of_any_format_names_the_same_base(base: Path) -> None:
    source = Source(path=base, sha256=base_digest(base, 2))
    assert is_same_base(base_digest(base, 1), source) and is_same_base(source.sha256, source)
    assert not is_same_base("other", source) and not is_same_base("other", Source(path=base / "gone", sha256="x"))


def test_every_vocabulary_file_of_a_tokenizer_counts(base: Path) -> None:
    """The names are those of transformers' tokenizers of the supported families."""
    from transformers import (
        GemmaTokenizer,
        LlamaTokenizer,
        Qwen2Tokenizer,
        XLMRobertaTokenizer,
    )

    tokenizers = (Qwen2Tokenizer, LlamaTokenizer, GemmaTokenizer, XLMRobertaTokenizer)
    names = {name for one in tokenizers for name in one.vocab_files_names.values()}
    assert "tokenizer.json" in names
    for name in names:
        (base / name).touch()
    assert names <= deciding_files(base).keys()


def test_what_is_opened_to_load_a_base_counts(base: Path) -> None:
    """Python's own record of opened files: nothing that decides is left out, unless evals ignore it."""
    import torch

    from trainables.model.base import load_base

    for name in ("generation_config.json", "special_tokens_map.json", "chat_template.json"):
        (base / name).write_text("{}")
    opened: set[str] = set()
    watching = [True]

    def see(event: str, arguments: Any) -> None:
        if watching and event == "open" and str(arguments[0]).startswith(f"{base}/"):
            opened.add(str(Path(arguments[0]).relative_to(base)))

    sys.addaudithook(see)  # cannot be removed, so it is switched off
    load_base(base, "none", "float32", torch.device("cpu"))
    watching.clear()
    assert {"config.json", "tokenizer_config.json", "preprocessor_config.json"} <= opened
    assert opened <= {*deciding_files(base), "generation_config.json"}
