#!/usr/bin/env bash
# The runs behind README.md: about twenty-five minutes on two cores.
# usage: experiments/loss_correction/run.sh RUNS MNIST, from the repository root; MNIST is the folder that holds MNIST/raw
set -eu
runs=$1 mnist=$2
sweep() {
  python -m noisylabels_pl.sweep noise.rate=0.6 data.root="$mnist" seed=0,1,2 "$@" --folder "$runs" --jobs 2
}

sweep experiment=loss_correction/mnist_asym method=ce
sweep experiment=loss_correction/mnist_asym method=forward_paper,backward_paper method.T=known,estimated
sweep experiment=loss_correction/mnist_asym_released method=ce
sweep experiment=loss_correction/mnist_asym_released method=forward_released,backward_released method.T=known,estimated
python -m noisylabels_pl.table "$runs" --by net.dropout --save experiments/loss_correction/rows.jsonl
python -m experiments.tables
