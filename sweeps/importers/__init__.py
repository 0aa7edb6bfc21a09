"""axolotl, ms-swift and LLaMA-Factory files become trials: every key is used, ignored for a reason, or refused.

`rules` says what can become of a key, `axolotl`, `swift` and `llamafactory` are tables of the keys that people write,
`judges`, `values` and `templates` read values, `files` finds tool and paths, `targets` the placement,
`settle` the settings, `ranges` has the last look; `told` shows the reader all of it.
"""
