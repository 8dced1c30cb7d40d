#!/usr/bin/env bash
# Label precision of the coresets of CRUST's variants on CIFAR-10 with 50 % symmetric noise: a small CNN, 5,000 training
# images of which 500 are held out for validation, 15 epochs.
# usage: experiments/crust/run_precision.sh DATA RUNS, from the repository root; then
#        python -m experiments._report.crust RUNS
# DATA holds cifar-10-batches-py/ or cifar10.npz. Testing uses the first 2,048 test images.
set -eu
data=$1 runs=$2
python -m noisylabels_pl -m method=crust,crust_paper,crust_released method.partition=predicted,observed seed=0,1,2 \
    data=cifar10 data.root="$data" data.train_size=5000 data.val_fraction=0.1 net=small_cnn schedule=constant \
    noise=sym noise.rate=0.5 trainer.max_epochs=15 +trainer.limit_val_batches=4 hydra.sweep.dir="$runs/cifar10_sym50"
