"""Narrow: ranks 8, 16, 32 at half, equal and double rates around Stage 4's winners, language last-1 too (brief 001).

python -m sweeps.narrow                      around what `analysis pareto --experiment stage4` named
python -m sweeps.narrow --winners FILE       around the placements of another winners.json
python -m sweeps.narrow --only C2,E2         arms by name, without any winners
"""

from sweeps.study import Arm, Study
from trainables.mini import defaults

STUDY = Study(
    name="narrow",
    question="Which rank and rate suit the winning placements, and is one language layer enough?",
    arms=(
        Arm("A0", language=0, vision=0),
        Arm("B2", language=0, vision=4),
        Arm("B3", language=0, vision=6),
        Arm("C2", language=2, vision=4),
        Arm("C3", language=2, vision=6),
        Arm("E0", language=1, vision=0),
        Arm("E1", language=1, vision=2),
        Arm("E2", language=1, vision=4),
        Arm("E3", language=1, vision=6),
    ),
    winners_of="stage4",
    ranks=(8, 16, 32),
    rate_factors=(0.5, 1.0, 2.0),
    settings={
        "rank": 16,
        "alpha": 32.0,
        "dropout": 0.1,
        "learning_rate": 1e-4,
        "vision_learning_rate": 3e-4,
        "weight_decay": 0.1,
        "warmup_ratio": 0.2,
        "batch_rows": 1,
        "accumulation_steps": 16,
        "epochs": 1.0,
        "eval_every_steps": 50,
    },
    miniature=defaults.SETTINGS,
)

if __name__ == "__main__":
    from sweeps.cli.study import main

    main(STUDY)
