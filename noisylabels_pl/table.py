"""Put runs into a table: ``python -m noisylabels_pl.table RUNS``."""

from noisylabels_pl.cli.table import main

if __name__ == "__main__":
    main()
