"""Prints a trial as a configuration of axolotl, ms-swift or LLaMA-Factory; settings the tool lacks are comments.

python -m trainables.export runs/stage4/trials/C2-4f8affe6 --as axolotl --out c2.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from trainables.errors import UserError
from trainables.export.trial import TOOLS, export_record
from trainables.io.files import write_text
from trainables.record import Record


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; errors go to stderr with exit code 2."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m trainables.export", description=__doc__)
    parser.add_argument("record", type=Path, help="directory of a trial")
    parser.add_argument("--as", dest="tool", required=True, help=", ".join(TOOLS))
    parser.add_argument("--out", type=Path, help="file to write (default: stdout)")
    given = parser.parse_args(arguments)
    try:
        text = export_record(Record(given.record), given.tool)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if given.out:
        write_text(given.out, text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
