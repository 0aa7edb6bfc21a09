"""Converts configurations of axolotl, ms-swift and LLaMA-Factory to trials; every key is used, ignored or refused.

`rules` defines what a key can do; `axolotl`, `swift` and `llamafactory` are tables of keys, `shared` their common part;
`values`, `no_effect` and `templates` read values; `files` finds the tool and its paths, `targets` finds the placement,
`settings` computes the trial's settings, `ranges` checks them, `import_report` shows the result; `config` runs them.
"""
