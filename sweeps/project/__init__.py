"""Writes a project: a directory with a study file and the rows that it reads (`footprint init DIR`).

- `base_answers`: Asks the base its questions; those that it gets wrong are left out.
- `base_facts`: What a project must know of its base: whether it sees, its layers, how its weights are stored.
- `choices`: The answers to the four questions, each checked by itself.
- `command`: The command line of `footprint init`.
- `dialogue`: Asks the four questions, or takes the answers from options.
- `files`: Writes the files of a project, all or none.
- `kept_questions`: Reads the general questions that a model must keep answering, and makes rows of them.
- `own_pictures`: Puts pictures into a project: those of the user's rows, and those outside the task.
- `split_rows`: Splits validation rows off training rows; no question is on both sides.
- `study_of_base`: The study of a project, with arms that fit the depth of a text base.
- `writing`: Writes a project and says which commands come next.
"""
