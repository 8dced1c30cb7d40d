#!/usr/bin/env bash
# The runs behind the README's table and picture: about four minutes on two cores.
# usage: experiments/digits/run.sh RUNS, from the repository root
set -eu
runs=$1
python -m noisylabels_pl.sweep method=crust,crust_paper,crust_released,ce,gce seed=0,1,2 --folder "$runs"
# CRUST's 60 epochs are 1,235 steps, because a coreset is half of the data; 33 epochs of CE are 1,254.
python -m noisylabels_pl.sweep method=ce trainer.max_epochs=33 seed=0,1,2 --folder "$runs"
python -m noisylabels_pl.sweep method=ce optim=sgd_momentum seed=0,1,2 --folder "$runs"
python -m noisylabels_pl.table "$runs" --by trainer.max_epochs,optim.momentum --save experiments/digits/rows.jsonl
python -m experiments.tables                # the README's table
python -m experiments.digits.picture "$runs"
