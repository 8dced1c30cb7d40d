"""Run the command line: ``python -m noisylabels_pl``."""

import sys

if __name__ == "__main__":
    try:
        from noisylabels_pl.cli.main import main

        main()
    except KeyboardInterrupt:  # while the libraries are imported
        sys.exit(130)
