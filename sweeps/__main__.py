"""Lists what can be run, and runs it: `python -m sweeps stage4` is `footprint stage4`."""

from sweeps.cli.footprint import main

if __name__ == "__main__":
    main()
