"""Lists the commands of `analysis`, and runs them: `python -m analysis pareto` is `analysis pareto`."""

from analysis.cli import main

if __name__ == "__main__":
    main()
