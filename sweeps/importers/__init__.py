"""Converts configurations of axolotl, ms-swift and LLaMA-Factory to trials; every key is used, ignored or refused.

- `axolotl`: Common keys of axolotl, with the meaning of its schema (`axolotl.utils.schemas`, version 0.13).
- `config`: Reads a configuration file as a trial: settings, sources, and a report on the effect of every key.
- `files`: Detects the tool of a configuration and finds its files, relative to it or to the working directory.
- `import_report`: Shows an import: every key and its effect, every setting and its source.
- `llamafactory`: Common keys of LLaMA-Factory, with the meaning of its dataclasses (version 0.9.4).
- `no_effect`: Checks of mappings and lists that may have no effect: each returns the reason or raises InvalidValue.
- `ranges`: Checks the ranges of imported settings; errors name the file, line and key that a setting comes from.
- `rules`: Rules for keys of other tools: a key sets a field, has no effect for a stated reason, or is refused.
- `settings`: Computes the trial's settings from a parsed configuration, its base and its rows; each setting has its
  source.
- `shared`: Rules shared by the three tools, which all train with the Trainer of `transformers`.
- `space_option`: Reads `--space "rank=4,8;language=2,4"`: axes of ranks, rates, quantizations, seeds and placements.
- `swift`: Common keys of ms-swift, with the meaning of its parameter reference (versions 3.5 to 4).
- `targets`: Converts the modules that a tool adapts to a placement, the last layers of each tower, or refuses them.
- `templates`: Maps names of chat templates to the bases that ship them; a trial always uses its base's own template.
- `values`: Converts values of other tools; each reader raises InvalidValue for a value it cannot convert.
"""
