"""The command line `python -m trainables.data`."""

from __future__ import annotations


def main() -> None:
    """Run the command line: `check` and `filter`."""
    from trainables.data.check import app

    app(prog_name="python -m trainables.data")


if __name__ == "__main__":
    main()
