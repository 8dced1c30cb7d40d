#!/usr/bin/env bash
# The runs behind README.md: about fifteen minutes on one core.
# usage: experiments/prl/run.sh RUNS, from the repository root
set -eu
runs=$1
sweep() {
  python -m noisylabels_pl.sweep seed=0,1,2 checkpoint=false "$@" --folder "$runs"
}

regression() {
  sweep method=mse,norm_clip,huber,min_sgd,individual_clip,prl_g_paper,prl_l_paper,co_prl_l_paper noise.rate=0.4 "$@"
}
regression data=synthetic_regression data.num_samples=5000 noise=linadv,signflip
regression data=diabetes noise=linadv,signflip
sweep method=ce,norm_clip,min_sgd,individual_clip,spl,prl_l,prl_g,co_teaching,co_prl_l method.forget_rate=\${noise.rate} \
  data=digits noise=sym noise.rate=0.5

python -m noisylabels_pl.table "$runs" --save experiments/prl/rows.jsonl
python -m experiments.tables
