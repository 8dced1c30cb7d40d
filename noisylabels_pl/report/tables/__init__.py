"""Tables of many runs: read their rows, put them into a grid of cells, and print it.

Nothing here imports torch, so that the command starts at once.
"""
