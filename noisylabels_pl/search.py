"""Choose hyper-parameters: ``python -m noisylabels_pl.search 'method.fraction=interval(0.2,0.8)'``."""

from noisylabels_pl.cli.search import main

if __name__ == "__main__":
    main()
