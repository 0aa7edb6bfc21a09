"""From files to tensors: rows, formats, images, chat templates, packing, filters and checks of data.

- `chat_text`: Splits a conversation that a chat template rendered as one text back into its turns.
- `check`: Checks a data file and summarizes its contents: `python -m trainables.data check FILE`.
- `dataset_info`: Reads entries of LLaMA-Factory's `dataset_info.json`: `dataset_info.json:NAME` is the data of that
  entry.
- `duplicates`: Finds rows that two files share, and validation rows inside rendered training text.
- `encoding`: Encodes rows as tensors: chat template, image tokens, labels on assistant tokens only; and the order of
  the rows.
- `filtered_file`: Writes filtered training files: the remaining rows, and a report of the dropped ones.
- `filters`: Filters of training rows; each is a pure function that marks the rows to drop.
- `formats`: The supported formats of rows; each is converted to the same turns.
- `images`: Checks the images of a row: one per `<image>` tag, existing files, decodable images.
- `ood`: Reads the out-of-distribution file: questions outside the task, and the answers of a general model.
- `packing`: Sequence packing: several text rows in one sequence, with the same result as one row per sequence.
- `rows`: Reads and checks the rows of train and validation files.
- `scan`: Encodes every row of a study's files as training does, to find problems before training starts.
- `template_date`: The date that a chat template shows, frozen for all trials of an experiment.
- `text`: Properties of an answer's text that several probes use.
"""
