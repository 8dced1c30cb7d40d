#!/usr/bin/env bash
# The runs behind README.md: about two minutes on one core.
# usage: experiments/elr/run.sh RUNS, from the repository root; then
#        python -m experiments._report.accuracy experiments/elr RUNS
set -eu
runs=$1
python -m noisylabels_pl -m method=ce,elr seed=0,1,2,3,4 hydra.sweep.dir="$runs/defaults"
python -m noisylabels_pl -m method=elr method.penalty=kl seed=0,1,2,3,4 hydra.sweep.dir="$runs/kl"
