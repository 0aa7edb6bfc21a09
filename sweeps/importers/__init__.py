"""Converts configurations of axolotl, ms-swift and LLaMA-Factory to trials; every key is used, ignored or refused.

- `axolotl`: Common keys of axolotl, with the meaning of its schema (`axolotl.utils.schemas`, versions 0.13 to 0.18).
- `axolotl_datasets`: Keys of an entry of axolotl's `datasets` and `test_datasets`.
- `base_checks`: Compares what a configuration says about its base with the base's own files.
- `config`: Reads a configuration file as a trial: settings, sources, and a report on the effect of every key.
- `documents`: Reads a configuration file, YAML or JSON, and tells trials of this project from configurations of other
  tools.
- `eval_interval`: Computes how often an imported trial evaluates.
- `files`: Detects the tool of a configuration and finds its files, relative to it or to the working directory.
- `import_report`: Shows an import: every key and its effect, what differs from the tool, every setting and its source.
- `llamafactory`: Common keys of LLaMA-Factory, with the meaning of its dataclasses (versions 0.9.4 to 0.9.6).
- `llamafactory_modules`: Finds the modules that LLaMA-Factory adapts on a base with pictures.
- `no_effect`: Checks of mappings and lists that may have no effect: each returns its effect or raises InvalidValue.
- `packing`: Compares steps of packed sequences, as the tools count them, with the trial's steps of rows.
- `parsing`: Applies the rules of a tool to every key of a configuration, and reports all problems together.
- `precision`: Computes the quantization and the compute dtype of an imported trial.
- `ranges`: Checks the ranges of imported settings; errors name the file, line and key that a setting comes from.
- `rules`: Rules for keys of other tools: a key sets a field, has no effect for a stated reason, or is refused.
- `setting`: One setting of an imported trial, and where its value comes from.
- `settings`: Computes the trial's settings from a parsed configuration, its base and its rows; each setting has its
  source.
- `shared`: Rules shared by the three tools, which all train with the Trainer of `transformers`.
- `space_option`: Reads `--space "rank=4,8;language=2,4"`: axes of ranks, rates, quantizations, seeds and placements.
- `swift`: Common keys of ms-swift, with the meaning of its parameter reference (versions 3.5 to 4.6).
- `targets`: Converts the modules that a tool adapts to a placement, the same linears in layers of a tower, or
  refuses them.
- `templates`: Maps names of chat templates to the bases that ship them; a trial always uses its base's own template.
- `values`: Converts values of other tools; each reader raises InvalidValue for a value it cannot convert.
"""
