"""Tests that Ray is started in one way: on loopback alone, with a token that only its user reads."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("sweeps", "trainables", "analysis", "benchmarks")
CAREFUL = {"loopback_alone", "protect_token"}
JOINS = ROOT / "sweeps" / "execution" / "joining.py"  # always at an address, so that it starts nothing


def called(tree: ast.AST) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def careless_starts(source: str) -> Iterator[str]:
    """Yield the functions that start Ray without making its token and choosing loopback first."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and "ray.init" in called(node) and not called(node) >= CAREFUL:
            yield node.name


def test_every_start_of_ray_is_careful() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    starts = [path for path in files if "ray.init(" in path.read_text() and path != JOINS]
    assert starts
    assert {
        str(path.relative_to(ROOT)): found for path in starts if (found := [*careless_starts(path.read_text())])
    } == {}


def test_a_start_without_care_is_found() -> None:
    assert list(careless_starts("def bare():\n    protect_token(True)\n    ray.init(num_cpus=1)\n")) == ["bare"]
