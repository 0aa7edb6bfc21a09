"""From files to tensors: rows, formats, images, chat templates, packing, filters and checks of data.

- `accepted`: Answers that are accepted by meaning: terms that must occur in an answer, or a pattern that must match it.
- `chat_text`: Splits a conversation that a chat template rendered as one text back into its turns.
- `chat_template`: Renders conversations with the chat template of a base; no other file calls the template.
- `check`: Checks a data file and summarizes its contents: `footprint data check FILE`.
- `conversation`: Turns a conversation into tokens and labels: what the chat template renders, supervised at answers.
- `dangerous_answers`: Counts dangerous commands among the answers of a file of shell commands.
- `dataset_info`: Reads entries of LLaMA-Factory's `dataset_info.json`: `dataset_info.json:NAME` is the data of that
  entry.
- `duplicates`: Finds rows that two files share, and validation rows inside rendered training text.
- `encoding`: Encodes rows as tensors: chat template, image tokens, labels on assistant tokens only; and the order of
  the rows.
- `filtered_file`: Writes filtered training files: the remaining rows, and a report of the dropped ones.
- `filters`: Filters of training rows; each is a pure function that marks the rows to drop.
- `formats`: The supported formats of rows: which keys they have, and which one a row is of.
- `images`: Reads pictures by one rule, wherever they are read: checks, training, evals and crops.
- `joined_files`: Finds the files that a data path names: a file, an entry of a table, or several of them joined by
  commas.
- `mixing`: Mixes replay rows into the training rows: general rows that a model shall not forget while it learns the
  task.
- `normalize`: Converts a row of any supported format to the same turns and pictures.
- `ood`: Reads the out-of-distribution file: questions outside the task, and the answers of a general model.
- `packing`: Sequence packing: several text rows in one sequence, with the same result as one row per sequence.
- `picture_inputs`: Turns what an image processor makes of a picture into inputs of the model, by the family's
  description.
- `picture_names`: Reads the names of pictures: a path, a `file:` address, or an object with one of them.
- `picture_places`: Keeps the pictures of a data file in its own directory, by the rule of `trainables/io/places.py`.
- `picture_text`: Puts the text of each picture in its place in a conversation, in families that write more than one
  token for it.
- `rows`: Reads and checks the rows of train and validation files.
- `scan`: Encodes every row of a study's files as training does, to find problems before training starts.
- `structural_tokens`: The tokens that structure a conversation: they end or start turns, or stand for pictures, and
  belong to no text.
- `supervision`: Finds each answer of a conversation in the text that the chat template renders, and the tokens to
  supervise.
- `system_turn`: Writes a copy of a data file whose conversations without a system turn start with a given one.
- `template_date`: The date that a chat template shows, frozen for all trials of an experiment.
- `text`: Properties of an answer's text that several probes use.
- `turns`: Reads turns and their content parts; every key of a turn and of a part is used or refused.
- `unsupported`: Kinds of rows and turns that are no examples for supervised fine-tuning, each refused by what it is.
"""
