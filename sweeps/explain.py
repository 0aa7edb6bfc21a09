"""Explains a placement before anything is run: modules, parameters, what arms share, and expressions for other tools.

python -m sweeps.explain --base DIR --language 2 --vision 4 --modules mlp
python -m sweeps.explain --base Qwen/Qwen3-VL-4B-Instruct --language 2 --json
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from trainables.command import run
from trainables.errors import UserError

Base = Annotated[Path, typer.Option(help="Directory, config.json, or a model id whose config.json is cached.")]
Language = Annotated[int, typer.Option(min=0, help="Last language layers with LoRA.")]
Vision = Annotated[int, typer.Option(min=0, help="Last vision blocks with LoRA.")]
Modules = Annotated[str, typer.Option(help="attention, mlp, gate-up, all; or experts.")]
Rank = Annotated[int, typer.Option(min=1, help="Rank of LoRA.")]
StudyName = Annotated[str, typer.Option("--study", help="Study whose arms it is compared with.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main(
    base: Base,
    language: Language = 0,
    vision: Vision = 0,
    modules: Modules = "all",
    rank: Rank = 16,
    study: StudyName = "stage4",
    as_json: AsJson = False,
) -> None:
    """Explain a placement from config.json alone; reads no weights and downloads nothing."""
    from sweeps.explaining.configuration import find_base
    from sweeps.explaining.explanation import PlacementQuestion, explain
    from sweeps.explaining.text import lines_of
    from sweeps.study import Study
    from trainables.spec import Placement

    try:
        compared = getattr(import_module(f"sweeps.{study}"), "STUDY", None) if study.isidentifier() else None
    except ModuleNotFoundError:
        compared = None
    if not isinstance(compared, Study):
        raise UserError(f"--study must be a study, but there is no `sweeps.{study}`", "for example --study stage4")
    asked = PlacementQuestion(Placement(language=language, vision=vision), modules, rank, compared)
    explanation = explain(find_base(str(base)), asked)
    typer.echo(json.dumps(asdict(explanation), indent=2) if as_json else "\n".join(lines_of(explanation)))


if __name__ == "__main__":
    run(main)
