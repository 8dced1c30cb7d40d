"""Go on with a run: ``python -m noisylabels_pl.resume FOLDER``."""

from noisylabels_pl.cli.resume import main

if __name__ == "__main__":
    main()
