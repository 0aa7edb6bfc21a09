"""The command line `python -m trainables.data`."""

from __future__ import annotations


def main() -> None:
    """Run the command line: `check`, `filter`, `answer` and `kit`."""
    from trainables.command import run
    from trainables.data.check import app

    run(app)


if __name__ == "__main__":
    main()
