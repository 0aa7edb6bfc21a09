"""Modules: which kind of linears LoRA adapts, and in which layers, beside how many of them.

python -m sweeps.modules --recommended --seeds 3 --lr auto     the four kinds in every language layer: begin here
python -m sweeps.modules                                       all ten arms on the embedded miniature
python -m sweeps.modules --base DIR --train train.jsonl --val val.jsonl --ood ood.jsonl --seeds 3 --lr auto

A kind of linears learns at a rate of its own: with one rate for all, an arm that learns slowly has lost little for
that reason alone. So pilots choose the rate of each arm, and three seeds say what a difference is worth.
"""

from sweeps.study import ONE_EPOCH, Arm, Study
from trainables.mini import defaults

# attention, gate and up, and all are what arXiv 2510.08564 compares where the components themselves are tuned
STUDY = Study(
    name="modules",
    question="Which kind of linears learns most for what it forgets, and in which layers?",
    arms=(
        Arm("A0", language=0, vision=0),
        Arm("attention", language=4, vision=0, settings={"modules": "attention", "layers": "all"}),
        Arm("gate_up", language=4, vision=0, settings={"modules": "gate-up", "layers": "all"}),
        Arm("mlp", language=4, vision=0, settings={"modules": "mlp", "layers": "all"}),
        Arm("all", language=4, vision=0, settings={"layers": "all"}),
        Arm("attention_last4", language=4, vision=0, settings={"modules": "attention"}),
        Arm("gate_up_last4", language=4, vision=0, settings={"modules": "gate-up"}),
        Arm("mlp_last4", language=4, vision=0, settings={"modules": "mlp"}),
        Arm("all_last4", language=4, vision=0),
        Arm("all_first4", language=4, vision=0, settings={"layers": "first"}),
        Arm("all_every2", language=4, vision=0, settings={"layers": "every-2"}),
    ),
    recommended=("attention", "gate_up", "mlp", "all"),
    settings=ONE_EPOCH,
    miniature=defaults.SETTINGS,
)

if __name__ == "__main__":
    from sweeps.cli.study import main

    main(STUDY)
