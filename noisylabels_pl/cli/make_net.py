"""Makes the configured network, and checks that it fits the data."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from noisylabels_pl.data import NoisyDataModule
from noisylabels_pl.functional import check_choice


def make_net(config: DictConfig, datamodule: NoisyDataModule) -> nn.Module:
    """Return a new network for the dataset.

    The callable ``net._target_`` gets ``input_shape`` and ``num_classes`` if it takes them. A network that takes
    neither fits by its own options, which one forward pass checks.

    Args:
        config: composed from ``conf/``.
        datamodule: after ``setup()``.

    Raises:
        TypeError: the callable makes no network.
        ValueError: the network fails on samples of the dataset, or has other outputs than the dataset has classes.
    """
    num_outputs = datamodule.arrays.num_outputs
    of_data = {"input_shape": datamodule.input_shape, "num_classes": num_outputs}
    net = _call(config.net, of_data)
    if not isinstance(net, nn.Module):
        raise TypeError(f"net._target_={config.net._target_} must make a torch.nn.Module, got {type(net).__name__}")
    _check_outputs(net, str(config.net._target_), _two_samples(datamodule), num_outputs)
    if config.channels_last:
        net.to(memory_format=torch.channels_last)
    if config.compile:
        backend = "inductor" if config.compile is True else config.compile
        check_choice("compile", backend, torch.compiler.list_backends(exclude_tags=()))
        net.compile(backend=backend)
    return net


def _call(net: DictConfig, of_data: dict[str, Any]) -> Any:
    """Call ``_target_`` with its options, and with those facts about the data that it takes.

    ``**kwargs`` may be handed on to a function that takes only some of them, as torchvision's are. A fact that is
    refused as unknown is left out.
    """
    given = {name: value for name, value in of_data.items() if _may_take(get_object(net._target_), name)}
    while True:
        try:
            return instantiate(net, _convert_="all", **given)
        except InstantiationException as error:
            message = str(error.__cause__)
            refused = [name for name in given if f"unexpected keyword argument '{name}'" in message]
            if not refused or not isinstance(error.__cause__, TypeError):
                raise
            del given[refused[0]]


def _may_take(target: Any, name: str) -> bool:
    """Return whether a callable has an argument of this name, or takes any."""
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # written in C, without a signature
        return True
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()):
        return True
    return name in parameters and parameters[name].kind != inspect.Parameter.POSITIONAL_ONLY


def _two_samples(datamodule: NoisyDataModule) -> Tensor:
    """Return two samples as a network gets them: zeros, or texts of the token with the largest id."""
    shape = (2, *datamodule.input_shape)
    arrays = datamodule.arrays
    if arrays.x_train.dtype != torch.int64:
        return torch.zeros(shape)
    in_memory = [x for x in (arrays.x_train, arrays.x_test) if isinstance(x, Tensor)]
    return torch.full(shape, max([1, *(int(x.max()) for x in in_memory)]))


def _check_outputs(net: nn.Module, target: str, samples: Tensor, num_outputs: int) -> None:
    """Raise ``ValueError`` unless the network maps ``(B, ...)`` to ``(B, num_outputs)``.

    The pass also gives the layers of torch that are lazy their shapes.
    """
    modes = {module: module.training for module in net.modules()}
    shape = tuple(samples.shape[1:])
    try:
        # Dropout that is active at test draws random numbers, which must not change those of the run.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = net.eval()(samples)
    except Exception as error:  # of any layer, on samples that it is not made for
        reason = (str(error) or type(error).__name__).splitlines()[0]
        hint = ""
        if samples.dtype == torch.int64:
            hint = "; samples are numbers of words, for networks that begin with an embedding: net=embedding_mean"
        raise ValueError(f"net: {target} fails on samples of shape {shape}: {reason}{hint}") from error
    for module, mode in modes.items():
        module.training = mode
    if not isinstance(output, Tensor):
        raise ValueError(
            f"net: {target} returns {type(output).__name__}, not a tensor; it must return its logits alone"
        )
    if output.shape != (2, num_outputs):
        raise ValueError(
            f"net: {target} returns {tuple(output.shape)} for 2 samples of shape {shape}, but the data needs "
            f"{num_outputs} outputs: (2, {num_outputs})"
        )
