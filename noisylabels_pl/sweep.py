"""Run the missing cells of a table: ``python -m noisylabels_pl.sweep method=ce,crust seed=0,1``."""

from noisylabels_pl.cli.sweep import main

if __name__ == "__main__":
    main()
