"""Continuation: the same training from a parent that kept its generality and from one that lost it.

python -m sweeps.continuation --init-from STABLE --restart-from LOST --only L2V4 --seeds 5

STABLE is an adapter that kept its generality, such as `best/` of a trial; LOST one that did not, such as the last
checkpoint of the same trial. Each seed trains both with the same draws, so that the two are a pair. `analysis effects
--experiment response` prints a command for each trial that left both, and `--continuations continuation` compares them.
"""

from sweeps.study import ONE_EPOCH, Arm, Study
from trainables.mini import defaults

STUDY = Study(
    name="continuation",
    question="Does training on help an adapter that kept its generality, and harm one that lost it?",
    arms=(
        Arm("L1V0", language=1, vision=0),
        Arm("L1V1", language=1, vision=1),
        Arm("L1V2", language=1, vision=2),
        Arm("L1V3", language=1, vision=3),
        Arm("L1V4", language=1, vision=4),
        Arm("L1V5", language=1, vision=5),
        Arm("L1V6", language=1, vision=6),
        Arm("L2V0", language=2, vision=0),
        Arm("L2V1", language=2, vision=1),
        Arm("L2V2", language=2, vision=2),
        Arm("L2V3", language=2, vision=3),
        Arm("L2V4", language=2, vision=4),
        Arm("L2V5", language=2, vision=5),
        Arm("L2V6", language=2, vision=6),
        Arm("L3V0", language=3, vision=0),
        Arm("L3V1", language=3, vision=1),
        Arm("L3V2", language=3, vision=2),
        Arm("L3V3", language=3, vision=3),
        Arm("L3V4", language=3, vision=4),
        Arm("L3V5", language=3, vision=5),
        Arm("L3V6", language=3, vision=6),
        Arm("L4V0", language=4, vision=0),
        Arm("L4V1", language=4, vision=1),
        Arm("L4V2", language=4, vision=2),
        Arm("L4V3", language=4, vision=3),
        Arm("L4V4", language=4, vision=4),
        Arm("L4V5", language=4, vision=5),
        Arm("L4V6", language=4, vision=6),
    ),
    settings={**ONE_EPOCH, "epochs": 0.5},
    miniature={**defaults.SETTINGS, "steps": 60, "eval_every_steps": 15},
    # the study measures how far generality falls, so no guard may stop the fall
    guards=(),
)

if __name__ == "__main__":
    from sweeps.cli.study import main

    main(STUDY)
