"""Tests the 4B shape: it is refused without a GPU, and its base of random NF4 weights works when made small."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ended import ended

from benchmarks import __main__ as command
from benchmarks import rows
from benchmarks.families import trial
from benchmarks.rows import Amounts
from benchmarks.shapes import random_base
from trainables.engine import Engine
from trainables.mini import BASE_DIRECTORY, defaults
from trainables.spec import Source


def test_4b_without_a_gpu_ends_with_2_and_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = ended(command.main, "--shape", "4b", "--out", tmp_path / "page.md")
    assert done.exit_code == 2
    assert "needs a CUDA device" in done.output and "hint:" in done.output
    assert not (tmp_path / "page.md").exists()


@pytest.mark.slow
def test_a_base_of_random_nf4_weights_trains_alone_and_in_a_cohort(tmp_path: Path) -> None:
    from bitsandbytes.nn import Linear4bit

    from benchmarks.sharing import Bench, run_cohort, run_solo

    torch.set_num_threads(1)
    torch.manual_seed(0)
    base = random_base(BASE_DIRECTORY, torch.device("cpu"), torch.float32)
    assert isinstance(base.model.model.visual.blocks[0].attn.qkv, Linear4bit)
    assert base.model.lm_head.weight is base.model.model.language_model.embed_tokens.weight
    written = rows.write(tmp_path, Amounts(train=4, picture=(64, 32), before=20, after=5, answer=6))
    settings = {**defaults.SETTINGS, **written, "base": Source(path=BASE_DIRECTORY, sha256="0"), "steps": 3,
                "eval_every_steps": 3, "batch_rows": 2}  # fmt: skip
    specs = [trial(name, settings) for name in ("A1", "C2")]
    bench = Bench(Engine.on(base, specs[0]), tmp_path / "records")
    counts = bench.cost(specs).counts
    assert (counts.rows, counts.labels, counts.prefix_tokens) == (2, 14, 29)  # with the template's own tokens
    alone, together = run_solo(bench, specs, last=2), run_cohort(bench, specs, 2, "shared", None)
    assert together.losses["C2"] == pytest.approx(alone.losses["C2"], abs=1e-4)
    assert together.step_seconds > 0
