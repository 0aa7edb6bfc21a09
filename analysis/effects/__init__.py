"""Estimates what layers, rank and rate do to fit and generality, and judges hypotheses by contrasts.

- `command`: The command `analysis effects`.
- `continuations`: Pairs of continued trials: the same training from a parent that kept its generality and from one
  that lost it.
- `contrasts`: Contrasts of a linear model, with intervals over the trials of all seeds and over rows together.
- `design`: The trials of an experiment as a design: one observation a trial, and the matrix of a linear model on
  factors.
- `hypotheses`: The four hypotheses about the footprint of an adapter, each judged by contrasts with intervals.
- `importance`: How much each setting decides about a metric, by Optuna, beside the contrasts.
- `means`: The mean of a metric at each placement, which shows what a linear model smooths over.
- `parents`: Finds trials that left both a parent within the constraint and one outside it, for the study of
  continuations.
- `report`: All that the command `analysis effects` says, as one value made from trials.
- `tables`: Writes effects and answers as text for a terminal, as Markdown and as JSON.
"""
