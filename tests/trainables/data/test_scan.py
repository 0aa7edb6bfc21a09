"""Tests the scan against the encoder of training, with a planted fault for each problem."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from small_trials import Sources

from trainables.data.rows import read_rows
from trainables.data.scan import PictureSizes, Scan, ScanFailure, load_encoder, scan, scan_here, scan_result
from trainables.errors import UserError
from trainables.mini import BASE_DIRECTORY
from trainables.model.base import load_base
from trainables.model.families import FAMILIES
from trainables.schedule import rate_factor

if TYPE_CHECKING:
    from trainables.engine import Engine


IGNORED = -100
QUESTION = {"role": "user", "content": "What is two plus three?"}
ANSWER = {"role": "assistant", "content": "five."}
PROBES = [
    {"kind": "irrelevant", "prompt": "What?", "images": ["picture.png"], "expect": "无关图片"},
    {"kind": "caption", "prompt": "Say.", "images": ["picture.png"]},
    {"kind": "text", "prompt": "Hi?", "expect": "hello"},
]

Scanned = Callable[..., Scan]


@pytest.fixture
def scanned(tmp_path: Path) -> Scanned:
    """Scan training rows written beside `picture.png`, with the miniature's encoder or another base's."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "picture.png")

    def write(name: str, rows: list[dict[str, Any]]) -> Path:
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    def read(*rows: dict[str, Any], base: Path = BASE_DIRECTORY) -> Scan:
        validation = write("validation", [{"messages": [QUESTION, ANSWER]}])
        return scan_here(base, write("train", list(rows)), validation, write("ood", PROBES))

    return read


def shown(picture: str, text: str = "<image>What is it?") -> dict[str, Any]:
    return {"id": picture, "messages": [{"role": "user", "content": text}, ANSWER], "images": [picture]}


@pytest.fixture
def templated(tmp_path: Path) -> Callable[[str, str], Path]:
    """Copy the miniature's base with something in its chat template replaced."""

    def copy(old: str, new: str) -> Path:
        base = Path(shutil.copytree(BASE_DIRECTORY, tmp_path / "base"))
        template = (base / "chat_template.jinja").read_text(encoding="utf-8")
        assert old in template
        (base / "chat_template.jinja").write_text(template.replace(old, new), encoding="utf-8")
        return base

    return copy


# -------------------------------------------------------------------- tokens and the embedding
def with_token(base: Path, token: str, directory: Path, **changes: Any) -> Path:
    """Add a token to the tokenizer of a base, whose embedding stays as it is."""
    from transformers import AutoTokenizer

    shutil.copytree(base, directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    rows = json.loads((directory / "config.json").read_text())["text_config"]["vocab_size"]
    tokenizer.add_tokens([f"<unused-{number}>" for number in range(rows - len(tokenizer))])
    tokenizer.add_tokens([token], special_tokens=True)
    for key, value in changes.items():
        setattr(tokenizer, key, value)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.parametrize("changes", [{}, {"pad_token": "<act>"}])
def test_a_tokenizer_with_more_tokens_than_the_embedding_has_rows_is_refused(
    changes: dict[str, Any], scanned: Scanned, tmp_path: Path
) -> None:
    base = with_token(BASE_DIRECTORY, "<act>", tmp_path / "base", **changes)
    with pytest.raises(UserError, match="must have a row for every token of its tokenizer") as caught:
        scanned({"messages": [QUESTION, ANSWER]}, base=base)
    assert "has 704 rows and the tokenizer has `<act>` from number 704 on" in caught.value.message
    with pytest.raises(UserError, match="must have a row for every token of its tokenizer"):
        load_base(base, "none", "float32", torch.device("cpu"))


def test_a_row_that_uses_a_token_without_a_row_in_the_embedding_is_named(
    scanned: Scanned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = with_token(BASE_DIRECTORY, "<act>", tmp_path / "base")
    known = replace(FAMILIES["qwen3_vl"], tokens_without_embedding=("<act>",))
    monkeypatch.setitem(FAMILIES, "qwen3_vl", known)  # type: ignore[arg-type]
    used = {"messages": [QUESTION, {"role": "assistant", "content": "<act>five."}]}
    first, second = scanned({"messages": [QUESTION, ANSWER]}, used, base=base).train
    assert first.problem is None
    assert second.problem == "`<act>` is token 704, but the embedding has 704 rows"


def test_a_configuration_that_transformers_refuses_is_refused_by_the_scan(scanned: Scanned, tmp_path: Path) -> None:
    base = Path(shutil.copytree(BASE_DIRECTORY, tmp_path / "base"))
    values = json.loads((base / "config.json").read_text())
    values["text_config"]["rms_norm_eps"] = "small"
    (base / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"config\.json: transformers must be able to read it"):
        scanned({"messages": [QUESTION, ANSWER]}, base=base)


def test_lengths_are_those_of_training(sources: Sources, engine: Engine) -> None:
    found = scan_here(BASE_DIRECTORY, sources.train.path, sources.validation.path, sources.ood.path)
    for name, path in (("train", sources.train.path), ("validation", sources.validation.path)):
        encoded = [engine.encoder.conversation(row) for row in read_rows(path)]
        assert [(row.tokens, row.supervised_tokens, row.image_tokens) for row in getattr(found, name)] == [
            (
                len(one.tokens),
                sum(label != IGNORED for label in one.labels[1:]),
                one.tokens.count(engine.encoder.image_token_id),
            )
            for one in encoded
        ]
    assert all(row.supervised_tokens == 0 < row.tokens for row in found.ood)


def test_large_and_small_pictures_take_the_tokens_of_training(scanned: Scanned, engine: Engine, tmp_path: Path) -> None:
    for name, size in (("wide.png", (300, 40)), ("small.png", (9, 9)), ("large.png", (1000, 700))):
        Image.new("RGB", size, "blue").save(tmp_path / name)
    found = scanned(shown("wide.png"), shown("small.png"), shown("large.png"))
    expected = [engine.encoder.conversation(row) for row in read_rows(tmp_path / "train.jsonl")]
    assert [row.tokens for row in found.train] == [len(one.tokens) for one in expected]


def test_text_is_compared_normalized_and_pictures_by_their_bytes(scanned: Scanned, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "picture.png", tmp_path / "same.png")
    Image.new("RGB", (64, 64), "green").save(tmp_path / "other.png")
    first, same, other = scanned(
        shown("picture.png"), shown("same.png", "<image> WHAT  is it?"), shown("other.png", "<image>Why?")
    ).train
    assert (first.question, first.answer, first.pictures) != (same.question, same.answer, same.pictures)
    assert first.pictures == same.pictures != other.pictures
    assert first.answer == other.answer
    spaced = scanned(shown("picture.png"), {**shown("same.png", "<image>WHAT  is it?"), "id": "spaced"}).train
    assert spaced[0].question == spaced[1].question


def truncated(path: Path) -> None:
    Image.effect_noise((64, 64), 50).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:-2000])


def ribbon(path: Path) -> None:
    Image.new("RGB", (900, 3)).save(path)


@pytest.mark.parametrize(
    ("spoil", "text", "expected"),
    [
        (truncated, "<image>What?", "an image must be readable"),
        (ribbon, "<image>What?", "absolute aspect ratio must be smaller than 200"),
        (
            lambda path: Image.new("RGB", (64, 64)).save(path),
            "<image><|image_pad|>What?",
            "holds `<|image_pad|>`",
        ),
    ],
)
def test_a_row_that_training_could_not_encode_says_why(
    scanned: Scanned, tmp_path: Path, spoil: Callable[[Path], None], text: str, expected: str
) -> None:
    spoil(tmp_path / "broken.png")
    good, broken = scanned(shown("picture.png"), shown("broken.png", text)).train
    assert good.problem is None
    assert expected in (broken.problem or "")
    assert broken.tokens == 0


def test_a_template_that_refuses_a_turn_is_reported_per_row(
    scanned: Scanned, templated: Callable[[str, str], Path]
) -> None:
    refusing = templated(
        "{%- for message in messages -%}",
        "{%- for message in messages -%}{%- if message.role == 'system' -%}"
        "{{ raise_exception('no system turn') }}{%- endif -%}",
    )
    with_system = {"messages": [{"role": "system", "content": "Be brief."}, QUESTION, ANSWER]}
    plain, output = scanned({"messages": [QUESTION, ANSWER]}, with_system, base=refusing).train
    assert plain.problem is None
    assert output.problem is not None
    assert "must accept its turns (system, user" in output.problem and output.problem.endswith(
        "reports: no system turn"
    )


def test_a_template_that_drops_the_answer_is_a_problem_of_its_row(
    scanned: Scanned, templated: Callable[[str, str], Path]
) -> None:
    """Failure F10: the loss would fall, but only the end of turn would be learned."""
    dropping = templated("{{- message.content -}}", "{{- message.content.split('</think>')[-1] -}}")
    thought = {"messages": [QUESTION, {"role": "assistant", "content": "<think>two and three</think>"}]}
    spoken, silent = scanned({"messages": [QUESTION, ANSWER]}, thought, base=dropping).train
    assert spoken.supervised_tokens > 1
    assert "must show every answer unaltered, but it drops or alters part of turn 1" in (silent.problem or "")


def test_a_template_that_marks_no_end_of_turn_is_seen(scanned: Scanned, templated: Callable[[str, str], Path]) -> None:
    marking = templated(
        "{{- message.content -}}",
        "{%- if message.role == 'assistant' -%}{%- generation -%}{{- message.content -}}{%- endgeneration -%}"
        "{%- else -%}{{- message.content -}}{%- endif -%}",
    )
    found = scanned({"messages": [QUESTION, ANSWER]}, base=marking).train
    assert [row.learns_to_end for row in found] == [False]
    assert [row.learns_to_end for row in scanned({"messages": [QUESTION, ANSWER]}).train] == [True]


class Promising:
    """An image processor whose formula gives four more patches than it makes."""

    def __init__(self, processor: Any) -> None:
        self.processor, self.merge_size = processor.processor, processor.merge_size

    def get_number_of_image_patches(self, *size: Any) -> int:
        return self.processor.get_number_of_image_patches(*size) + 4

    def __call__(self, **pictures: Any) -> Any:
        return self.processor(**pictures)


def test_image_tokens_that_differ_from_the_features_are_refused() -> None:
    """Failure F30: otherwise the model fails at this row."""
    honest = load_encoder(BASE_DIRECTORY).image_processor
    picture = Image.new("RGB", (64, 64))
    assert int(honest(images=[picture], return_tensors="pt")["image_grid_thw"].prod()) == 64
    with pytest.raises(UserError, match="64 x 64 pixels make 64 patches on a grid of 64 where 68 are expected"):
        PictureSizes(Promising(honest))(images=[picture], return_tensors="pt")


def test_scanning_in_another_process_imports_no_torch_and_gives_the_same(sources: Sources) -> None:
    files = [str(one.path) for one in (sources.base, sources.train, sources.validation, sources.ood)]
    script = (
        "import json, sys; from dataclasses import asdict; from pathlib import Path; "
        "from trainables.data.scan import scan; "
        "found = scan(*map(Path, sys.argv[1:])); assert not {'torch', 'transformers'} & set(sys.modules); "
        "print(json.dumps(asdict(found)))"
    )
    done = subprocess.run([sys.executable, "-c", script, *files], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(json.dumps(asdict(scan_here(*map(Path, files)))))


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("tokenizer*.json", "the tokenizer of a base must know `<|image_pad|>`, but that of .* has 1 tokens"),
        ("preprocessor_config.json", "a base must hold its tokenizer and image processor"),
    ],
)
def test_a_base_without_its_own_files_is_refused(tmp_path: Path, missing: str, expected: str) -> None:
    base = Path(shutil.copytree(BASE_DIRECTORY, tmp_path / "base"))
    for path in base.glob(missing):
        path.unlink()
    with pytest.raises(UserError, match=expected):
        load_encoder(base)


def test_an_error_of_the_scan_reaches_the_caller(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(UserError, match=r"broken\.jsonl:1: a row must be one JSON object"):
        scan(sources.base.path, tmp_path / "broken.jsonl", sources.validation.path, sources.ood.path)


def test_a_crashed_scan_is_an_error_with_a_command_that_shows_it(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(UserError, match="their scan ended with: exit code 1") as caught:
        scan(sources.base.path, sources.train.path, sources.validation.path, sources.ood.path)
    assert "-m trainables.data.scan" in (caught.value.hint or "")


@pytest.mark.parametrize(("warmup_ratio", "min_rate_ratio"), [(0.0, 0.0), (0.2, 0.1), (1.0, 0.5), (0.03, 0.0)])
def test_the_planned_rate_is_the_optimizers(warmup_ratio: float, min_rate_ratio: float) -> None:
    from torch.nn import Linear
    from torch.optim import AdamW
    from transformers import get_cosine_with_min_lr_schedule_with_warmup

    from trainables.model import optimizer as optim

    steps = 40
    adamw = AdamW(Linear(1, 1).parameters(), lr=1.0)
    reference = get_cosine_with_min_lr_schedule_with_warmup(
        adamw, num_warmup_steps=-(-int(100 * warmup_ratio) * steps // 100), num_training_steps=steps,
        min_lr_rate=min_rate_ratio,
    )  # fmt: skip
    for step in range(steps):
        factor = rate_factor(step, steps, warmup_ratio, min_rate_ratio)
        assert factor == optim.rate_factor(step, steps, warmup_ratio, min_rate_ratio)
        assert factor == pytest.approx(reference.get_last_lr()[0], abs=1e-12)
        adamw.step()
        reference.step()


@pytest.mark.slow
def test_a_result_and_a_failure_survive_the_way_between_the_processes(sources: Sources) -> None:
    found = scan(*(one.path for one in (sources.base, sources.train, sources.validation, sources.ood)))
    assert scan_result(json.dumps(asdict(found))) == found
    failure = ScanFailure("a row must have an answer", None)
    assert scan_result(json.dumps(asdict(failure))) == failure
    row = asdict(found)["train"][0]
    for broken in ("", "[]", '{"error": 1, "hint": null}', json.dumps({"train": [row], "validation": [row]})):
        with pytest.raises(ValidationError):
            scan_result(broken)
