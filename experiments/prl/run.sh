#!/usr/bin/env bash
# The runs behind README.md: about two and a half hours on one core.
# usage: experiments/prl/run.sh RUNS MNIST, from the repository root; MNIST is the folder that holds MNIST/raw
#        then python -m experiments._report.prl RUNS
set -eu
runs=$1 mnist=$2
run="python -m noisylabels_pl -m"  # a sweep over all values that are separated by commas

# Run a regression problem with every method: the folder of its runs, then the options of its data.
regression() {
  local name=$1
  shift
  $run "$@" seed=0,1,2,3,4 noise.rate=0.1,0.2,0.3,0.4 method=mse,huber,prl_l_paper,prl_g_paper \
    hydra.sweep.dir="$runs/$name/main"
  $run "$@" seed=0,1,2,3,4 noise.rate=0.2,0.4 method=norm_clip,individual_clip,min_sgd,co_prl_l_paper \
    hydra.sweep.dir="$runs/$name/others"
}
regression synthetic data=synthetic_regression data.num_samples=5000 noise=linadv,signflip,uninoise,pairflip,mixture
regression diabetes data=diabetes noise=linadv,signflip,uninoise,mixture

# Corrupt the features of the samples whose targets are corrupted, too.
$run data=synthetic_regression data.num_samples=5000 noise=signflip noise.features=3 noise.rate=0.2,0.4 seed=0,1,2,3,4 \
  method=mse,huber,prl_l_paper,prl_g_paper hydra.sweep.dir="$runs/features"

# The words of $noise, $digits, $small_mnist and $filter are overrides, so these are not quoted.
for noise in "pairflip noise.rate=0.45" "sym noise.rate=0.5"; do
  kind=${noise%% *}  # the first word
  digits="data=digits noise=$noise seed=0,1,2,3,4"
  small_mnist="data=mnist data.root=$mnist data.train_size=10000 data.val_fraction=0 optim=adam trainer.max_epochs=30"
  small_mnist="$small_mnist noise=$noise seed=0,1,2"
  $run $digits method=ce,min_sgd,norm_clip,individual_clip hydra.sweep.dir="$runs/digits/$kind/plain"
  $run $small_mnist method=ce hydra.sweep.dir="$runs/mnist/$kind/plain"
  for method in spl prl_l prl_g co_teaching co_prl_l; do
    filter="method=$method method.forget_rate=\${noise.rate}"
    $run $digits $filter hydra.sweep.dir="$runs/digits/$kind/$method"
    if [ $method != prl_g ]; then
      $run $small_mnist $filter method.ramp_epochs=10 hydra.sweep.dir="$runs/mnist/$kind/$method"
    fi
  done
done
