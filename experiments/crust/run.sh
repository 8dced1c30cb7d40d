#!/usr/bin/env bash
# The runs behind README.md, label precision of the coresets of CRUST's variants: about six minutes on one core.
# usage: experiments/crust/run.sh RUNS DATA, from the repository root; DATA holds cifar-10-batches-py/ or cifar10.npz
set -eu
runs=$1 data=$2
# Two batches of the validation and of the test set: all validation images, and the first 1,024 test images.
python -m noisylabels_pl.sweep method=crust,crust_paper,crust_released method.partition=predicted,observed seed=0,1,2 \
  data=cifar10 data.root="$data" data.train_size=2500 data.val_fraction=0.1 net=small_cnn channels_last=true \
  schedule=constant noise=sym noise.rate=0.5 trainer.max_epochs=10 +trainer.limit_val_batches=2 checkpoint=false \
  --folder "$runs"
python -m noisylabels_pl.table "$runs" --save experiments/crust/rows.jsonl
python -m experiments.tables
