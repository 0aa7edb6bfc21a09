"""Narrow: ranks 8, 16 and 32 at 0.5, 1 and 2 times the rates, on Stage 4's winners and with one language layer.

python -m sweeps.narrow                      on the winners of `analysis pareto --experiment stage4`
python -m sweeps.narrow --winners FILE       on the placements in another winners.json
python -m sweeps.narrow --only C2,E2         on arms chosen by name; reads no winners.json
"""

from sweeps.study import ONE_EPOCH, Arm, Study
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
    settings=ONE_EPOCH,
    miniature=defaults.SETTINGS,
    miniature_before_format_3=defaults.BEFORE_FORMAT_3,
)

if __name__ == "__main__":
    from sweeps.cli.study import main

    main(STUDY)
