"""Continuation: the same training from a parent that kept its generality and from one that lost it.

python -m sweeps.continuation --init-from STABLE --restart-from LOST --only L2V4 --seeds 5

STABLE is an adapter that kept its generality, such as `best/` of a trial; LOST one that did not, such as the last
checkpoint of the same trial. Each seed trains both with the same draws, so that the two are a pair. `analysis effects
--experiment response --continuations continuation` compares them and prints this command with parents that it found.
"""

from sweeps.study import ONE_EPOCH, Arm, Study
from trainables.mini import defaults

STUDY = Study(
    name="continuation",
    question="Does training on help an adapter that kept its generality, and harm one that lost it?",
    arms=(
        Arm("L1V0", language=1, vision=0),
        Arm("L2V0", language=2, vision=0),
        Arm("L2V2", language=2, vision=2),
        Arm("L2V4", language=2, vision=4),
        Arm("L2V6", language=2, vision=6),
        Arm("L4V0", language=4, vision=0),
        Arm("L4V2", language=4, vision=2),
        Arm("L4V4", language=4, vision=4),
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
