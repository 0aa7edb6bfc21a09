"""Tests that no code of the project runs what a foreign file holds: no pickle, no `torch.load`, no unsafe YAML."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("sweeps", "trainables", "analysis", "benchmarks")
UNPICKLING_MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
# called as `anything.NAME(...)` or imported by its name
UNPICKLING_CALLS = {"torch.load", "torch.jit.load", "torch.hub.load", "pandas.read_pickle", "pd.read_pickle",
                    "ray.cloudpickle", "Tuner.restore", "tune.Tuner.restore", "ExperimentAnalysis", "eval", "exec",
                    "compile", "__import__", "yaml.load", "yaml.load_all", "yaml.safe_load", "yaml.full_load",
                    "yaml.unsafe_load",
                    "mlflow.pyfunc.load_model", "mlflow.pytorch.load_model", "Image.open"}  # fmt: skip
# the one place where each may stand, and why
ALLOWED = {
    ("sweeps/execution/tuner.py", "pickle"),  # the name of an error that Tune raises about its own files
    ("trainables/data/images.py", "Image.open"),  # behind the rule for pictures
    ("benchmarks/public_configs.py", "yaml.safe_load"),  # single words; files go through trainables/io/strict_yaml.py
    ("benchmarks/rows.py", "Image.open"),  # pictures that it made
}
KEYWORDS = {"allow_pickle": True, "trust_remote_code": True, "weights_only": False, "shell": True}


def dangers(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of what could run code of a file that is read."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, one.name) for one in node.names if one.name.split(".")[0] in UNPICKLING_MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in UNPICKLING_MODULES:
            yield node.lineno, node.module or ""
        elif isinstance(node, ast.ImportFrom) and (node.module, "load") in {("torch", one.name) for one in node.names}:
            yield node.lineno, "torch.load"
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in UNPICKLING_CALLS:
                yield node.lineno, name
            for given in node.keywords:
                if given.arg in KEYWORDS and getattr(given.value, "value", None) is KEYWORDS[given.arg]:
                    yield node.lineno, f"{given.arg}={KEYWORDS[given.arg]}"


def test_no_code_runs_what_a_file_holds() -> None:
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            place = str(path.relative_to(ROOT))
            found |= {(place, name, line) for line, name in dangers(path.read_text()) if (place, name) not in ALLOWED}
    assert found == set()


@pytest.mark.parametrize(
    "planted",
    ["import pickle", "from cloudpickle import loads", "import torch\ntorch.load('x.pt')", "from torch import load",
     "np.load(path, allow_pickle=True)", "torch.load(path, weights_only=False)", "yaml.load(text, Loader=yaml.Loader)",
     "AutoModel.from_pretrained(path, trust_remote_code=True)", "tune.Tuner.restore(path)", "eval(text)",
     "def late():\n    import joblib", "subprocess.run(text, shell=True)", "Image.open(path)"],
)  # fmt: skip
def test_a_planted_danger_is_found(planted: str) -> None:
    assert list(dangers(planted))
