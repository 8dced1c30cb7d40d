"""``python -m noisylabels_pl``."""

from noisylabels_pl.cli.run import main

if __name__ == "__main__":
    main()
