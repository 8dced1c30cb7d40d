#!/usr/bin/env bash
# The runs behind README.md: about two minutes on one core.
# usage: experiments/elr/run.sh RUNS, from the repository root
set -eu
runs=$1
python -m noisylabels_pl.sweep method=ce,elr method.penalty=log,kl seed=0,1,2,3,4 --folder "$runs"
python -m noisylabels_pl.table "$runs" --save experiments/elr/rows.jsonl
python -m experiments.tables
