"""Tests exports against the types of each tool's own keys, as `benchmarks.tool_schemas` read them from its sources."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainables.export.trial import TOOLS, ExportedTrial, export_trial
from trainables.mini import BASE_DIRECTORY
from trainables.model.families import family_of
from trainables.model.placement import resolve
from trainables.spec import Placement, Source, TrialSpec

SCHEMAS = json.loads(Path(__file__).with_name("tool_schemas.json").read_text(encoding="utf-8"))
FAMILY, CONFIG = family_of(BASE_DIRECTORY)
PICTURED = (
    '{"messages": [{"role": "user", "content": "<image> a"}, {"role": "assistant", "content": "b"}], "images": ["a"]}'
)
PLAIN = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
CHANGES: list[dict[str, Any]] = [
    {},
    {"placement": Placement(language=0, vision=4), "quantization": "nf4", "compute_dtype": "float32", "alpha": 22.5},
    {"quantization": "int8", "schedule": "stable", "warmup_ratio": 0.1, "adam_beta2": 0.95, "compute_dtype": "float16"},
    {"quantization": "none", "schedule": "constant", "min_rate_ratio": 0.0, "packed_tokens": 4096, "rslora": True},
]


def exported(tool: str, directory: Path, row: str = PLAIN, **changes: Any) -> tuple[dict[str, Any], str]:
    sources = {}
    for key in ("train", "validation", "ood"):
        path = directory / f"{key}.jsonl"
        path.write_text(row + "\n", encoding="utf-8")
        sources[key] = Source(path=path, sha256=key)
    spec = TrialSpec(
        **{"name": "C2", "base": Source(path=Path("/models/base"), sha256="base"), **sources,
           "placement": Placement(language=2), **changes}
    )  # fmt: skip
    modules = resolve(spec.placement, FAMILY.towers(CONFIG), spec.target_modules).module_names
    text = export_trial(ExportedTrial(spec, modules), tool)
    return yaml.safe_load(text), text


def pairs(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every key and value, those of the entries of lists too."""
    for key, value in values.items():
        yield key, value
        for entry in value if isinstance(value, list) else ():
            yield from entry.items() if isinstance(entry, dict) else ()


def fits(value: Any, types: list[str]) -> bool:
    match value:
        case bool():
            named = {"boolean"}
        case int():
            named = {"integer", "number"}
        case float():
            named = {"number"}
        case str():
            named = {"string", f"'{value}'"}
        case list():
            named = {"array"}
        case dict():
            named = {"object"}
        case _:
            named = {"null"}
    return bool(named & set(types)) or "any" in types


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("changes", CHANGES)
@pytest.mark.parametrize("row", [PLAIN, PICTURED], ids=["text", "pictures"])
def test_every_exported_key_is_the_tools_own_and_has_its_type(
    tool: str, changes: dict[str, Any], row: str, tmp_path: Path
) -> None:
    known = SCHEMAS[tool]["keys"]
    values, _ = exported(tool, tmp_path, row, **changes)
    wrong = {key: (value, known.get(key)) for key, value in pairs(values) if not fits(value, known.get(key, []))}
    assert wrong == {}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_table_would_catch_a_wrong_type_and_an_unknown_key(tool: str) -> None:
    schema = SCHEMAS[tool]
    assert schema["version"] and schema["date"] and len(schema["keys"]) > 150
    assert not fits("much", schema["keys"]["weight_decay"]) and fits(0.1, schema["keys"]["weight_decay"])
    assert "train_type" not in schema["keys"] and "learning_rat" not in schema["keys"]


def test_axolotl_is_told_to_read_pictures_and_only_then(tmp_path: Path) -> None:
    needed = {"processor_type": "AutoProcessor", "skip_prepare_dataset": True, "remove_unused_columns": False,
              "sample_packing": False}  # fmt: skip
    seen, head = exported("axolotl", tmp_path, PICTURED)
    assert needed.items() <= seen.items() and "# - chat_template: set that of your base" in head
    assert exported("axolotl", tmp_path, PLAIN, placement=Placement(vision=1))[0].items() >= needed.items()
    assert needed.keys() & exported("axolotl", tmp_path)[0].keys() == set()


def test_ms_swift_has_no_key_for_the_method_because_lora_is_its_default(tmp_path: Path) -> None:
    assert {"train_type", "tuner_type"} & exported("ms-swift", tmp_path)[0].keys() == set()


def test_a_fraction_of_alpha_is_told_because_no_tool_takes_one(tmp_path: Path) -> None:
    for tool in TOOLS:
        values, head = exported(tool, tmp_path, alpha=22.5)
        assert values["lora_alpha"] == 22 and "# - alpha 22.5: the tool takes whole numbers, so 22 is written" in head


def test_adam_beta2_is_exported(tmp_path: Path) -> None:
    for tool in TOOLS:
        assert exported(tool, tmp_path, adam_beta2=0.95)[0]["adam_beta2"] == 0.95
    assert exported("ms-swift", tmp_path)[0]["adam_beta2"] == 0.999  # its own default is 0.95
