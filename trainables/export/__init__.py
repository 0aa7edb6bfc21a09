"""Writes a trial as a configuration of another tool, with entries for its data files.

- `expressions`: Writes a placement in the terms of other tools: PEFT, ms-swift, LLaMA-Factory, axolotl, Unsloth and
  vLLM.
- `module_regex`: Writes a placement as one regular expression over full module names.
- `rows`: Describes data files to other tools: the keys that declare their format, and what the tool cannot read.
- `trial`: Writes a trial as a configuration of axolotl, ms-swift or LLaMA-Factory.
"""
