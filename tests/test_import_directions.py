"""sweeps -> trainables <- analysis, and heavy libraries in named files only; proved twice, and the proof is proved."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("sweeps", "trainables", "analysis")
TORCH = {"torch", "transformers", "peft", "bitsandbytes"}

# What the files of a package must never import, at the top or inside a function.
FORBIDDEN = {
    "sweeps": {"analysis", *TORCH},
    "trainables": {"sweeps", "analysis"},
    "analysis": {"sweeps", "ray", *TORCH},
}
# Who alone may import these.
ONLY_IN = {
    # tracking.py: a validation is run by hand and logs itself, without a sweep and its tracker
    "mlflow": ("sweeps/tracker.py", "sweeps/mirror.py", "analysis/runs.py", "trainables/tracking.py"),
    "ray": (
        "sweeps/launch.py",
        "sweeps/seats.py",
        "sweeps/cluster*.py",
        "trainables/seat.py",
        "trainables/cohort_seat.py",
    ),
}
# What merely importing the modules of a package, but those named, must not load: planning and reading stay light.
UNLOADED = (
    ("sweeps", (), {"mlflow", *TORCH}),
    ("sweeps", ("sweeps.seats", "sweeps.cluster*"), {"ray"}),
    ("analysis", (), {"ray", "sweeps", "mlflow", "pandas", "plotly", "matplotlib", "scipy", *TORCH}),
)


def imported(path: Path, root: Path) -> Iterator[str]:
    """Yield the full name of everything a file imports, relative names resolved, strings of importlib included."""
    package = path.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                above = package[: len(package) - level + 1] if level else ()
                yield from (".".join(filter(None, (*above, module, alias.name))) for alias in names)
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


def violations(root: Path) -> set[str]:
    """Name every import under `root` that goes in a direction it may not, as `file imports module`."""
    found = set()
    for package in PACKAGES:
        for path in (root / package).rglob("*.py"):
            file = path.relative_to(root).as_posix()
            for top in {name.split(".")[0] for name in imported(path, root)}:
                elsewhere = top in ONLY_IN and not any(fnmatch(file, pattern) for pattern in ONLY_IN[top])
                if top in FORBIDDEN[package] or elsewhere:
                    found.add(f"{file} imports {top}")
    return found


def loaded_by(package: str, root: Path, but: tuple[str, ...] = ()) -> set[str]:
    """Import the modules of `package` below `root` in a fresh process; return the top-level names it then holds."""
    script = f"""if True:
        import fnmatch, importlib, pkgutil, sys
        package = importlib.import_module({package!r})
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not any(fnmatch.fnmatch(module.name, pattern) for pattern in ("*.__main__", *{but!r})):
                importlib.import_module(module.name)
        print(*{{name.split(".")[0] for name in sys.modules}})
    """
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(root)})
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_no_file_imports_in_a_direction_it_may_not():
    assert len([*(ROOT / "sweeps").rglob("*.py")]) > 3, "nothing was read"
    assert violations(ROOT) == set()


@pytest.mark.parametrize(("package", "but", "heavy"), UNLOADED)
def test_importing_the_modules_loads_no_heavy_library(package, but, heavy):
    loaded = loaded_by(package, ROOT, but)
    assert package in loaded, "nothing was imported"
    assert loaded & heavy == set()


@pytest.mark.parametrize(
    ("file", "source", "violation"),
    [
        ("sweeps/plan.py", "import torch.nn as nn", "sweeps/plan.py imports torch"),
        ("sweeps/plan.py", "def forecast():\n    from peft import LoraConfig", "sweeps/plan.py imports peft"),
        ("sweeps/launch.py", "from analysis.frame import frame", "sweeps/launch.py imports analysis"),
        ("sweeps/plan.py", "from ray import tune", "sweeps/plan.py imports ray"),
        ("sweeps/plan.py", "import importlib\nimportlib.import_module('mlflow')", "sweeps/plan.py imports mlflow"),
        ("analysis/frame.py", "import sweeps.study", "analysis/frame.py imports sweeps"),
        ("analysis/frame.py", "if True:\n    import ray", "analysis/frame.py imports ray"),
        ("trainables/probes/words.py", "from sweeps import study", "trainables/probes/words.py imports sweeps"),
        ("trainables/engine.py", "import mlflow", "trainables/engine.py imports mlflow"),
    ],
)
def test_a_planted_import_is_found(tmp_path, file, source, violation):
    for package in PACKAGES:
        (tmp_path / package).mkdir()
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(source)
    assert violation in violations(tmp_path)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("trainables/seat.py", "from ray import tune"),
        ("sweeps/cluster_nodes.py", "import ray"),
        ("analysis/runs.py", "def read():\n    import mlflow"),
        ("analysis/frame.py", "from . import runs\nfrom trainables.record import Record"),
        ("trainables/engine.py", "import torch"),
    ],
)
def test_an_import_that_is_allowed_is_not_reported(tmp_path, file, source):
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(source)
    assert violations(tmp_path) == set()


def test_a_heavy_import_at_the_top_is_seen_in_the_fresh_process(tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "__init__.py").touch()
    (tmp_path / "torch.py").touch()
    (tmp_path / "sweeps" / "plan.py").write_text("import torch")
    assert "torch" in loaded_by("sweeps", tmp_path)


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_the_one_of_this_checkout(package):
    """`sweeps` is also what a helper library of wandb installs."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    assert Path(spec.origin) == ROOT / package / "__init__.py"
