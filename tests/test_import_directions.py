"""Tests which package may import which, and which libraries are loaded on import.

Imports inside functions and under TYPE_CHECKING count. Every rule is shown to be broken by a planted import.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("sweeps", "trainables", "analysis")
TORCH = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")

# A room is a folder below a package, or a file at a package's top. A room imports only rooms above it.
ORDER: Mapping[str, tuple[str, ...]] = {
    "trainables": (
        "notebook", "progress", "folded", "typed",
        "code_digest", "errors", "failures", "local_paths", "command", "limits", "io", "preloaded", "schedule",
        "placement", "source", "spec", "setting_meanings", "data_files", "lease", "verdict", "sharing_keys",
        "model", "gradient_norms",
        "data", "frozen", "probes", "measurement", "record", "attempt", "phase", "engine_log", "record_labels", "rates",
        "memory_file",
        "record_check", "recorded_baselines", "known_baselines", "checkpoints", "source_check",
        "verify", "metrics", "constraint",
        "rows_needed", "decision", "guards", "hypothesis_tests", "tested_guards", "weak_probes", "mlflow_models",
        "mlflow_store", "mlflow_files", "evaluation", "suites", "validate", "pareto", "engine", "health", "mini",
        "selftest", "training", "export", "shipping", "cohort", "derived", "workers", "__main__",
    ),
    "sweeps": (
        "study", "planning", "tracking", "display", "execution", "watching", "job", "launch", "stages", "hpo", "cli",
        "STUDIES", "doctor", "down", "importers", "trial", "rescale", "finalists", "holdout", "explaining", "explain",
        "project", "__main__",
    ),
    "analysis": (
        "open_page",
        "options", "printed_commands", "intervals", "probabilities", "mlflow_runs", "logged_measurements", "objectives",
        "foreign",
        "placements", "candidates", "uncertainty", "decision", "holdout", "placement_results", "standings",
        "attained", "guard_limits", "study_constraint", "frontier", "conclusion", "read_conclusion", "templates",
        "compare", "effects", "report", "runs_table", "seeds", "charts", "trial_report", "shipping", "study_report",
        "frames", "cli", "__main__",
    ),
}  # fmt: skip
STUDIES = (
    "commands", "continuation", "coverage", "curriculum", "modules", "narrow", "quantization", "response", "search",
    "smoke", "stage4", "unfreeze",
)  # fmt: skip

# Command lines of a room that run what stands below it: each stands in another room, with what only it imports.
COMMANDS: Mapping[str, str] = {
    "trainables.data.__main__": "training",
    "trainables.data.check": "training",
    "trainables.data.dangerous_answers": "probes",
    "trainables.probes.answer": "training",
}

# What a room must not import, at the top, inside a function or for a type.
FORBIDDEN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("trainables", ("sweeps", "analysis")),
    ("sweeps", ("analysis", *TORCH)),
    ("analysis", ("sweeps", "ray", *TORCH)),
    ("trainables.io", (*TORCH, "ray", "mlflow", "pandas")),
    ("trainables.model", ("ray", "mlflow", "trainables.data")),
    ("trainables.data", ("ray", "mlflow", "peft", "trainables.model.lora", "trainables.probes")),
    ("trainables.probes", (*TORCH, "ray", "mlflow", "trainables.model")),
    ("trainables.evaluation", ("ray", "trainables.guards", "trainables.training")),
    ("trainables.checkpoints", ("ray", "mlflow", "trainables.training")),
    ("trainables.export", (*TORCH, "ray", "mlflow")),
    ("trainables.health", ("ray", "mlflow", "trainables.guards")),
    ("trainables.selftest", ("ray", "mlflow", "trainables.guards")),
    ("trainables.training", ("ray", "mlflow", "trainables.cohort")),
    ("trainables.cohort", ("ray", "mlflow")),
    ("trainables.workers", ("mlflow", "transformers", "peft", "bitsandbytes")),
    ("trainables.workers.admission", ("asyncio", "time", "pathlib", "ray", "trainables.record")),
    ("sweeps.planning", ("ray", "mlflow")),
    ("sweeps.display", ("ray", "mlflow")),
    ("sweeps.tracking", ("ray",)),
    ("sweeps.watching", ("ray", "mlflow")),
    ("sweeps.stages", ("ray", "mlflow")),
    ("sweeps.hpo", ("ray", "mlflow")),
    ("sweeps.cli", ("ray", "mlflow", "optuna")),
    ("sweeps.importers", ("ray", "mlflow", "sweeps.execution.tuner")),
    ("analysis.charts", ("mlflow", "pandas")),
)
# Where alone a library may be imported.
ONLY_IN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ray", ("sweeps.execution", "trainables.workers")),
    ("mlflow", ("trainables.mlflow_files", "trainables.mlflow_models", "trainables.mlflow_store")),
    ("optuna", ("sweeps.hpo", "analysis.effects")),
)
# What importing the modules of a package, but those below, must not load: planning and reading stay light.
UNLOADED = (
    ("sweeps", (), ("mlflow", *TORCH)),
    (
        "sweeps",
        (
            "sweeps.execution.tuner",
            "sweeps.execution.baselines_ahead",
            "sweeps.execution.fleet",
            "sweeps.execution.relay",
            "sweeps.execution.ray_session",
            "sweeps.execution.cluster",
        ),
        ("ray",),
    ),
    (
        "analysis",
        (),
        ("ray", "sweeps", "mlflow", "moocore", "jinja2", "pandas", "matplotlib", "scipy", *TORCH),
    ),
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


def module_of(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def files(root: Path) -> dict[str, Path]:
    return {module_of(path, root): path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))}


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def room_of(module: str) -> str:
    """Return the room of a module by its name in ORDER; "" for a package itself."""
    for command, its in COMMANDS.items():
        if within(module, command):
            return its
    package, _, rest = module.partition(".")
    room = rest.partition(".")[0]
    return "STUDIES" if package == "sweeps" and room in STUDIES else room


def violations(root: Path) -> set[str]:
    """Name every import under `root` that a rule forbids, as `importer imports imported`."""
    found = set()
    for module, path in files(root).items():
        for name in imported(path, root):
            if not _is_allowed(module, name):
                found.add(f"{module} imports {name}")
    return found


def _is_allowed(module: str, name: str) -> bool:
    for prefix, forbidden in FORBIDDEN:
        if within(module, prefix) and module not in COMMANDS and any(within(name, one) for one in forbidden):
            return False
    for library, rooms in ONLY_IN:
        if within(name, library) and not any(within(module, room) for room in rooms):
            return False
    package, other = module.partition(".")[0], name.partition(".")[0]
    own, its = room_of(module), room_of(name)
    if package != other or not own or not its or own == its:
        return True
    return ORDER[package].index(its) < ORDER[package].index(own)


def cycles(root: Path) -> list[list[str]]:
    """Return the groups of modules that import each other in a circle."""
    known = files(root)
    graph = {module: _known_in(known, imported(path, root), module) for module, path in known.items()}
    reach = {module: _reachable(graph, module) for module in graph}
    circles = {frozenset(other for other in reach[one] if one in reach[other]) for one in graph if one in reach[one]}
    return sorted(sorted(circle) for circle in circles)


def _known_in(known: Mapping[str, Path], names: Iterator[str], module: str) -> set[str]:
    found = set()
    for name in names:
        while name and name not in known:
            name = name.rpartition(".")[0]  # noqa: PLW2901
        if name and name != module and not within(module, name):
            found.add(name)
    return found


def _reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    seen, todo = set(), list(graph[start])
    while todo:
        if (one := todo.pop()) not in seen:
            seen.add(one)
            todo += graph[one]
    return seen


def loaded_by(package: str, root: Path, but: tuple[str, ...] = ()) -> set[str]:
    """Import the modules of `package` below `root` in a fresh process; return the top-level names it then holds."""
    script = f"""if True:
        import importlib, pkgutil, sys
        package = importlib.import_module({package!r})
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not module.name.endswith("__main__") and module.name not in {but!r}:
                importlib.import_module(module.name)
        print(*{{name.split(".")[0] for name in sys.modules}})
    """
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(root)})
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


# ---------------------------------------------------------------- the rules hold
def test_no_file_has_a_forbidden_import() -> None:
    assert len(files(ROOT)) > 150, "nothing was read"
    assert violations(ROOT) == set()


def test_there_are_no_circular_imports() -> None:
    assert cycles(ROOT) == []


def test_every_package_is_in_the_order_of_imports() -> None:
    for package, order in ORDER.items():
        found = {room_of(module) for module in files(ROOT) if within(module, package)} - {""}
        assert found == set(order)


def unlisted(folder: Path) -> set[str]:
    """Return the files and folders of a room that its docstring does not list; its first line must be a sentence."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    if not text.split("\n")[0].endswith("."):
        return {"a first sentence"}
    inside = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")}
    inside |= {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    return {name for name in inside if f"- `{name}`: " not in text}


def test_every_room_says_what_it_is_for_and_lists_its_files() -> None:
    rooms = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    found = {room.relative_to(ROOT).as_posix(): unlisted(room) for room in rooms}
    assert len(found) > 25, found
    assert {room: missing for room, missing in found.items() if missing} == {}


def test_a_room_that_leaves_a_file_out_is_found(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text('"""Reads files.\n\n- `one`: reads one.\n"""\n')
    (tmp_path / "one.py").touch()
    assert unlisted(tmp_path) == set()
    (tmp_path / "two.py").touch()
    assert unlisted(tmp_path) == {"two"}


def homonyms(root: Path) -> dict[str, list[str]]:
    """Return the public classes that two modules define by one name, with the modules."""
    found: dict[str, list[str]] = {}
    for module, path in files(root).items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(module)
    return {name: modules for name, modules in found.items() if len(modules) > 1}


def test_no_two_classes_have_one_name() -> None:
    assert homonyms(ROOT) == {}


def test_a_planted_homonym_is_found(tmp_path: Path) -> None:
    plant(tmp_path, "trainables.io.one", "class Trial: ...\nclass _Own: ...")
    plant(tmp_path, "analysis.two", "class Trial: ...\nclass _Own: ...")
    assert homonyms(tmp_path) == {"Trial": ["trainables.io.one", "analysis.two"]}


@pytest.mark.parametrize(("package", "but", "heavy"), UNLOADED)
def test_importing_the_modules_loads_no_heavy_library(
    package: str, but: tuple[str, ...], heavy: tuple[str, ...]
) -> None:
    loaded = loaded_by(package, ROOT, but)
    assert package in loaded, "nothing was imported"
    assert loaded & set(heavy) == set()


# ---------------------------------------------------------------- and would be seen to be broken
PLANTED = [(f"{room}.planted", name) for room, forbidden in FORBIDDEN for name in forbidden]
PLANTED += [(f"{package}.planted_elsewhere.planted", library) for library, _ in ONLY_IN for package in PACKAGES]
PLANTED += [
    (f"{package}.{above if above != 'STUDIES' else 'stage4'}.planted",
     f"{package}.{below if below != 'STUDIES' else 'stage4'}.thing")
    for package, order in ORDER.items()
    for above, below in itertools.pairwise(order)
]  # fmt: skip


def plant(root: Path, module: str, source: str) -> None:
    for package in PACKAGES:
        (root / package).mkdir(exist_ok=True)
    path = root.joinpath(*module.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")


@pytest.mark.parametrize(("module", "name"), PLANTED, ids=str)
@pytest.mark.parametrize(
    "source",
    [
        "import {name}",
        "def later():\n    import {name}",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {name}",
        "import importlib\nimportlib.import_module('{name}')",
    ],
    ids=["at the top", "in a function", "for a type", "by its name"],
)
def test_a_planted_import_is_found(tmp_path: Path, module: str, name: str, source: str) -> None:
    plant(tmp_path, module, source.format(name=name))
    assert f"{module} imports {name}" in violations(tmp_path)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("trainables.workers.one", "from ray import tune"),
        ("sweeps.execution.nodes", "import ray"),
        ("trainables.mlflow_store", "def read():\n    import mlflow"),
        ("analysis.placements", "from . import mlflow_runs\nfrom trainables.record import Record"),
        ("trainables.engine", "import torch"),
    ],
)
def test_an_import_that_is_allowed_is_not_reported(tmp_path: Path, module: str, source: str) -> None:
    plant(tmp_path, module, source)
    assert violations(tmp_path) == set()


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    plant(tmp_path, "trainables.io.one", "from trainables.io import two")
    plant(tmp_path, "trainables.io.two", "def later():\n    from trainables.io.three import thing")
    plant(tmp_path, "trainables.io.three", "import trainables.io.one\nthing = 1")
    plant(tmp_path, "trainables.io.four", "import trainables.io.one")
    assert cycles(tmp_path) == [["trainables.io.one", "trainables.io.three", "trainables.io.two"]]


def test_a_heavy_import_at_the_top_is_seen_in_the_fresh_process(tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "__init__.py").touch()
    (tmp_path / "torch.py").touch()
    (tmp_path / "sweeps" / "plan.py").write_text("import torch")
    assert "torch" in loaded_by("sweeps", tmp_path)


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_the_one_of_this_checkout(package: str) -> None:
    """`sweeps` is also what a helper library of wandb installs."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    assert Path(spec.origin) == ROOT / package / "__init__.py"
