"""One example of each command of `footprint`, shown at the end of its help and in the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeps.execution.submission import studies

OWN_DATA = "--base DIR --train train.jsonl --val val.jsonl --ood ood.jsonl"
EXAMPLES: Mapping[str, str] = {
    "commands": "footprint commands --only L1,L2 --seeds 3",
    "compare": 'footprint compare C2 "D1 @ 60" --experiment stage4',
    "curriculum": "footprint curriculum stage1.yaml stage2.yaml --ood-test held_out.jsonl",
    "data answer": "footprint data answer --base DIR --ood questions.jsonl --out ood.jsonl",
    "data check": "footprint data check train.jsonl --base DIR",
    "data filter": "footprint data filter train.jsonl --drop duplicates,short:5 --out kept.jsonl",
    "data kit": 'footprint data kit --out kit --task-prompt "Report the state." --refusal "Unrelated picture."',
    "doctor": "footprint doctor --storage runs --json",
    "down": "footprint down cluster.yaml",
    "effects": "footprint effects --experiment response",
    "init": "footprint init mine --base DIR --train train.jsonl",
    "explain": "footprint explain --base DIR --language 2 --vision 4 --modules mlp",
    "export": "footprint export runs/stage4/trials/DIR --as axolotl --out trial.yaml",
    "finalists": "footprint finalists --experiment stage4 --candidate 'C2 @ 60'",
    "holdout": "footprint holdout --experiment stage4 --candidate 'C2 @ 60'",
    "import": 'footprint import axolotl.yaml --ood ood.jsonl --space "rank=4,8;language=2,4"',
    "list": "footprint list --storage runs",
    "lmms-eval": "footprint lmms-eval --checkpoint-dir DIR --tasks pope=pope.jsonl --python ~/lmms/bin/python",
    "logs": "footprint logs C2 --experiment stage4",
    "mini build": "footprint mini build --out base",
    "mini show": "footprint mini show --out look",
    "mini text build": "footprint mini text build --out base",
    "mini text show": "footprint mini text show --out look",
    "modules": "footprint modules --recommended --seeds 3 --lr auto",
    "narrow": "footprint narrow --winners frontier/stage4/winners.json",
    "pareto": "footprint pareto --experiment stage4 --ask-finalists",
    "quantization": "footprint quantization --quant nf4,int8 --seeds 3",
    "report": "footprint report --experiment stage4 --out report.html",
    "rescale": "footprint rescale --experiment stage4",
    "results": "footprint results --experiment stage4",
    "rm": "footprint rm stage4 --keep-runs",
    "runs": "footprint runs --experiment stage4 --format csv",
    "search": 'footprint search --trials 40 --modules attention,mlp --vary "learning_rate=1e-4..1e-3"',
    "seeds": "footprint seeds --experiment stage4",
    "ship": "footprint ship --experiment stage4 --out adapter",
    "smoke": f"footprint smoke {OWN_DATA}",
    "stage4": f"footprint stage4 {OWN_DATA} --epochs 1 --seeds 3 --dry-run",
    "status": "footprint status stage4 --json",
    "submit": "footprint submit cluster.yaml stage4 --storage DIR",
    "trial": "footprint trial llamafactory.yaml --ood ood.jsonl --dry-run",
    "unfreeze": "footprint unfreeze --rank 8 --dry-run",
    "validate": "footprint validate --checkpoint-dir DIR --data-path test.jsonl --allow-cpu",
    "verify": "footprint verify runs/stage4/trials/DIR/best",
}


def add_examples(command: Any, name: str) -> None:
    """Put the examples of a command and of its subcommands at the end of their help, unless they have an epilog."""
    subcommands = getattr(command, "commands", {})
    for subcommand, one in subcommands.items():
        add_examples(one, f"{name} {subcommand}")
    example = EXAMPLES.get(name) or (f"footprint {name} --dry-run" if name in studies() else "")
    if example and not command.epilog:
        command.epilog = f"For example: `{example}`"
