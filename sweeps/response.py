"""Response: fit and generality over every placement of 1 to 4 language layers and 0 to 6 vision blocks.

python -m sweeps.response --seeds 5          28 placements at 0.75, 1 and 1.25 times the rates, on the miniature
python -m sweeps.response --only L1V0,L2V0,L3V0,L4V0 --seeds 5
python -m sweeps.response --lr 2e-4          the placements alone, at one rate

The factors are crossed, so that each effect is estimated from all trials: `analysis effects --experiment response`.
"""

from sweeps.study import ONE_EPOCH, Arm, Study
from trainables.mini import defaults

STUDY = Study(
    name="response",
    question="How do fit and generality respond to layers of each tower and to modest changes of the rate?",
    arms=(
        Arm("A0", language=0, vision=0),
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
    recommended=("L1V0", "L4V0", "L1V6", "L4V6", "L2V2", "L3V4"),
    rate_factors=(0.75, 1.0, 1.25),
    settings=ONE_EPOCH,
    # no guard acts, so three evals suffice: two parents to continue from, and the last, at which effects are read
    miniature={**defaults.SETTINGS, "eval_every_steps": 40},
    # a trial that a guard stops has no last eval, so the effects would be those of the survivors
    guards=(),
)

if __name__ == "__main__":
    from sweeps.cli.study import main

    main(STUDY)
