"""Tables and figures made from the ``result.json`` of runs.

Each module writes one document, from the repository root:

    python -m experiments._report.crust RUNS              the table of experiments/crust/README.md
    python -m experiments._report.prl RUNS                the tables of experiments/prl/README.md
"""
