"""Trains one adapter in several stages, one after another.

- `curriculum`: Makes the stages of a curriculum, from stage files or from the miniature's three stages.
- `files`: Reads the user's stages from YAML: one file per stage, or one file with a list `stages`.
- `report`: The closing report of a staged study: how each stage's loss continues its parent's, and what was
  forgotten.
- `run`: The job of a staged study: checks all stages first, then runs them in order until one does not complete.
- `staged_study`: The value of a staged study: its stages, how each starts from the one before, and its JSON file.
- `unfreezing`: Makes the stages of a progressive unfreezing: each arm of a study extends the one before.
"""
