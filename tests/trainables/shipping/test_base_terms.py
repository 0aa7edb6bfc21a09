"""Tests what is read of a base's README, which is a foreign file."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

from trainables.shipping.base_terms import base_terms

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
FRONTS: dict[str, tuple[str, str | None]] = {
    "a licence": ("license: apache-2.0\nlanguage:\n- en\n", "apache-2.0"),
    "after lists": ("tags: [a, {b: c}]\nlicense: 'mit'\n", "mit"),
    "a name of its own": ("license: null\nlicense_name: qwen\n", "qwen"),
    "in a part": ("other:\n  license: mit\n", None),
    "no mapping": ("- license\n- mit\n", None),
    "no YAML": ("license: [mit\n", None),
    "a date": ("date: 2024-02-30\nlicense: mit\n", "mit"),
    "aliases without end": (BOMB + "license: mit\n", "mit"),
    "itself": ("a: &a {b: *a}\nlicense: mit\n", "mit"),
    "an object of Python": ("x: !!python/object/apply:os.system [id]\nlicense: mit\n", "mit"),
    "ten thousand levels": ("x: " + "[" * 10_000 + "]" * 10_000 + "\nlicense: mit\n", None),
    "a hundred megabytes": ("x: " + "y" * 10**8 + "\nlicense: mit\n", None),
}


@pytest.mark.parametrize("front", FRONTS)
def test_the_licence_is_read_whatever_else_a_readme_holds(front: str, tmp_path: Path) -> None:
    text, expected = FRONTS[front]
    (tmp_path / "README.md").write_text(f"---\n{text}---\n# Model\n")
    began = time.perf_counter()
    tracemalloc.start()
    try:
        assert base_terms(tmp_path).licence == expected
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - began < 10
