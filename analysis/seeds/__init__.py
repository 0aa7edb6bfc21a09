"""Says which arms deserve more seeds, or that rows limit the choice.

- `advice`: Says whether the pick is settled, which arms deserve more seeds, and whether rows limit the choice instead.
- `command`: The command `analysis seeds`.
- `printed_command`: The command that runs more seeds of some arms: that of the newest launch, with other arms and
  seeds.
"""
