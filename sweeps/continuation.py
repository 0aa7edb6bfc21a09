"""Continuation: the same training from a parent that kept its generality and from one that lost it.

python -m sweeps.continuation --init-from STABLE --restart-from LOST --only L2V4 --seeds 5

STABLE is an adapter that kept its generality, such as `best/` of a trial; LOST one that did not, such as the last
checkpoint of the same trial. Each seed trains both with the same draws, so that the two are a pair. `analysis effects
--experiment response` prints a command for each trial that left both, and `--continuations continuation` compares them.
"""

from sweeps.response import STUDY as RESPONSE
from sweeps.study import ONE_EPOCH, Study
from trainables.mini import defaults

STUDY = Study(
    name="continuation",
    question="Does training on help an adapter that kept its generality, and harm one that lost it?",
    arms=tuple(arm for arm in RESPONSE.arms if arm.language or arm.vision),
    settings={**ONE_EPOCH, "epochs": 0.5},
    miniature={**defaults.SETTINGS, "steps": 60, "eval_every_steps": 15},
    # the study measures how far generality falls, so no guard may stop the fall
    guards=(),
)

if __name__ == "__main__":
    from sweeps.cli.study import main

    main(STUDY)
