"""Decides what to ship from results by row: draws, probabilities, and the pick.

- `admissibility`: How probable it is that a candidate meets the constraint, and how many rows short of it a
  candidate is.
- `choice`: The rule that picks one of several candidates, on arrays in which higher is better.
- `correction`: What a pick is worth on rows that did not choose it: the choice is repeated on resampled rows.
- `evidence`: What the results by row say of all candidates together: draws, and the probability of being admissible.
- `finalists`: Finalists, the candidates that more rows can make the pick: their results on all irrelevant rows.
- `judged`: What is known of each candidate: expected values with intervals, gain, admissibility, place on the frontier.
- `pick`: Chooses what to ship: the most general candidate that the best task fit cannot be told from, and its seed.
- `pick_reasons`: Sentences about a choice: what would change it, and what is not known.
- `pooled`: The pooled estimator: draws of what candidates score on other rows and with other seeds.
- `settled`: How probable it is that more rows or more seeds would lead to another pick.
- `shrinkage`: Pulls what was drawn for each candidate toward what all candidates show, several metrics at once.
"""
