#!/usr/bin/env bash
# The runs behind README.md: about twenty minutes on one core.
# usage: experiments/loss_correction/run.sh RUNS MNIST, from the repository root; MNIST is the folder that holds MNIST/raw
#        then python -m experiments._report.accuracy experiments/loss_correction RUNS
set -eu
runs=$1
common=(experiment=loss_correction/mnist_asym noise.rate=0.6 data.root="$2" seed=0,1,2)
python -m noisylabels_pl -m "${common[@]}" method=ce hydra.sweep.dir="$runs/ce"
python -m noisylabels_pl -m "${common[@]}" method=forward_paper,backward_paper method.T=known hydra.sweep.dir="$runs/known"
python -m noisylabels_pl -m "${common[@]}" method=forward_paper,backward_paper hydra.sweep.dir="$runs/estimated"
