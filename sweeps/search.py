"""Search: a sampler chooses placement, rank, rates, dropout, quantization and epochs from the results so far.

python -m sweeps.search                      24 trials on the embedded miniature, 8 at a time
python -m sweeps.search --sampler gp --trials 48 --vary quantization=none,nf4-double
python -m sweeps.search --modules attention,mlp --layers last,first
python -m sweeps.search --objectives exact_match --scheduler asha --scheduler-options grace_period=30
"""

from sweeps.hpo.space import Choice, LogRange, Search, Space
from sweeps.study import ROW_BY_ROW, Study
from trainables.mini import defaults

SEARCH = Search(
    study=Study(
        name="search",
        question="Which LoRA, where, at which rates, before the model loses its generality?",
        arms=(),
        settings={**ROW_BY_ROW, "eval_every_steps": 50},
        miniature={**defaults.SETTINGS, "eval_every_steps": 20},
    ),
    space=Space({
        "language": Choice((0, 1, 2, 3, 4)),
        "vision": Choice((0, 2, 4, 6)),
        "rank": Choice((4, 8, 16, 32)),
        "alpha_ratio": Choice((1.0, 2.0, 4.0)),
        "learning_rate": LogRange(5e-5, 1e-3),
        "vision_learning_rate": LogRange(1e-4, 6e-3),
        "dropout": Choice((0.0, 0.05, 0.1)),
        "quantization": Choice(("none", "nf4-double")),
        "epochs": Choice((1.0, 2.0)),
    }),
)  # fmt: skip

if __name__ == "__main__":
    from sweeps.cli.search import main

    main(SEARCH)
