"""Tests the committed list of public configurations: its shape, its totals, and how a file is judged."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks import public_configs
from benchmarks.public_configs import Line, judged, judgement, read_list, shell_document, totals
from trainables.model.families import FAMILIES

PAGE = Path(public_configs.__file__).parents[1] / "docs" / "import.md"
AXOLOTL = ("base_model: b\nadapter: lora\nlora_r: 8\nlora_alpha: 16\nlearning_rate: 1e-4\nlora_target_linear: true\n"
           "val_set_size: 0.1\n")  # fmt: skip


def test_every_line_names_a_file_and_has_a_verdict_with_a_reason() -> None:
    lines = read_list()
    places = [(line.repository, line.commit, line.path) for line in lines]
    assert len(lines) == 276 and len(set(places)) == len(places)
    for line in lines:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", line.repository) and re.fullmatch(r"[0-9a-f]{7,40}", line.commit)
        assert line.path.endswith((".yaml", ".yml", ".sh")) and line.model
        assert line.verdict in {"imports", "refused"} and (line.verdict == "imports" or line.reason)
        assert line.known_family == ("yes" if line.family in FAMILIES else "no")
        assert line.known_family == "yes" or line.verdict == "refused"


def test_the_page_about_imports_tells_the_totals() -> None:
    found = totals(read_list())
    assert found["import"] >= 60
    told = (f"Of {found['all']} public configurations, {found['known']} are of known families, "
            f"and {found['import']} of these")  # fmt: skip
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert [one for one in (told,) if one not in page] == []


def test_a_file_is_judged_with_base_and_rows_given() -> None:
    line = Line("a/b", "1234567", "c.yaml", "m", "qwen2", "", "", "")
    assert judged(line, AXOLOTL).verdict == "imports"
    refused = judged(line, AXOLOTL + "relora: true\n")
    assert (refused.verdict, refused.reason) == (
        "refused",
        "`relora` must be off (ReLoRA is another method), but got true",
    )
    other = judged(Line("a/b", "1234567", "c.yaml", "m", "gpt_oss", "", "", ""), AXOLOTL)
    assert (other.known_family, other.verdict, other.reason) == ("no", "refused", "the family gpt_oss is not known")
    assert judged(Line("a/b", "1234567", "c.yaml", "m-AWQ", "qwen2", "", "", ""), AXOLOTL).reason.startswith(
        "with --base"
    )
    assert judgement(AXOLOTL + "sample_packing: true\n", Path("c.yaml"), "qwen2")[1].startswith("packing: ")


def test_the_arguments_of_a_shell_script_are_those_that_its_shell_passes() -> None:
    text = """
nproc_per_node=2

NPROC_PER_NODE=$nproc_per_node \\
swift sft \\
    --model 'Qwen/Qwen2.5-7B' \\
    --dataset 'a/b#500' \\
              'c/d' \\
    --learning_rate 1e-4 \\
    --lora_rank "8" \\
    --gradient_accumulation_steps $(expr 16 / $nproc_per_node) \\
    --system 'You are a helpful assistant.' \\
    --packing true \\
    --eval_use_evalscope \\
    --init_weights lora-ga

swift infer --adapters x
"""
    assert shell_document(text, Path("a.sh")).values == {
        "model": "Qwen/Qwen2.5-7B", "dataset": ["a/b#500", "c/d"], "learning_rate": 1e-4, "lora_rank": 8,
        "gradient_accumulation_steps": 8, "system": "You are a helpful assistant.", "packing": True,
        "eval_use_evalscope": True, "init_weights": "lora-ga",
    }  # fmt: skip
