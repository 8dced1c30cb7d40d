"""Command line; the only part that imports Hydra."""
