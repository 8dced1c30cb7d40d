#!/usr/bin/env bash
# The runs behind the README's table and picture: about four minutes on two cores.
# usage: experiments/digits/run.sh RUNS, from the repository root; then python -m experiments._report.digits RUNS
set -eu
runs=$1
python -m noisylabels_pl -m method=crust,crust_paper,crust_released,ce,gce seed=0,1,2 hydra.sweep.dir="$runs/equal_epochs"
# CRUST's 60 epochs are 1,235 steps, because a coreset is half of the data; 33 epochs of CE are 1,254.
python -m noisylabels_pl -m method=ce trainer.max_epochs=33 seed=0,1,2 hydra.sweep.dir="$runs/equal_steps"
python -m noisylabels_pl -m method=ce optim=sgd_momentum seed=0,1,2 hydra.sweep.dir="$runs/momentum"
