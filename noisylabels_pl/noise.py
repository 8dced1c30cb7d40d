"""Preview noise without training: ``python -m noisylabels_pl.noise OVERRIDES``."""

from noisylabels_pl.cli.noise import main

if __name__ == "__main__":
    main()
