"""Run the command line: ``python -m noisylabels_pl``."""

from noisylabels_pl.cli.main import main

if __name__ == "__main__":
    main()
