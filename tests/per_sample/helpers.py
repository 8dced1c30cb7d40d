"""Networks, and two references for norms of per-sample gradients: a loop over single samples, and torch.func."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from noisylabels_pl.per_sample import GradientNorms, per_sample_gradient_norms
from noisylabels_pl.per_sample.layers import base, convolution

Loss = Callable[[Tensor, Tensor], Tensor]
NUM_SAMPLES, NUM_CLASSES = 5, 4


# --- data and references ---


def random_inputs(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_labels(*shape: int, num_classes: int = NUM_CLASSES, seed: int = 1) -> Tensor:
    return torch.randint(0, num_classes, shape, generator=torch.Generator().manual_seed(seed))


def norms_by_loop(module: nn.Module, loss_fn: Loss, x: Tensor, y: Tensor) -> Tensor:
    """Return the norms in float64, by a forward and a backward pass for each sample."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    norms = []
    for i in range(len(x)):
        loss = loss_fn(module(x[i : i + 1]), y[i : i + 1]).mean()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        norms.append(torch.stack([g.double().square().sum() for g in gradients if g is not None]).sum().sqrt())
    return torch.stack(norms)


def norms_by_func(module: nn.Module, loss_fn: Loss, x: Tensor, y: Tensor) -> Tensor:
    """Return the norms in float64, by torch.func; a tied parameter counts once."""
    module = deepcopy(module)  # functional_call leaves a layer that has two names with the wrong parameters
    trainable = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}

    def loss_of_sample(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss_fn(functional_call(module, parameters, (x[None],)), y[None]).mean()

    gradients = vmap(grad(loss_of_sample), in_dims=(None, 0, 0))(trainable, x, y)
    squared_norms = [g.double().reshape(len(x), -1).square().sum(1) for g in gradients.values()]
    return torch.stack(squared_norms).sum(0).sqrt()


def assert_norms_agree(
    module: nn.Module, loss_fn: Loss, x: Tensor, y: Tensor, *, by_func: bool = True, rtol: float = 1e-5
) -> None:
    """Compare ``per_sample_gradient_norms`` with both references, or with the loop alone."""
    expected = norms_by_loop(module, loss_fn, x, y)
    assert expected.isfinite().all()
    assert expected.max() > 0
    if by_func:
        torch.testing.assert_close(norms_by_func(module, loss_fn, x, y), expected, rtol=rtol, atol=1e-9)
    norms = per_sample_gradient_norms(module, loss_fn, x, y)
    assert norms.shape == (len(x),)
    torch.testing.assert_close(norms.detach().double(), expected, rtol=rtol, atol=1e-9)


def hooks_of(module: nn.Module) -> list[str]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    hooks = [f"{path}:{kind}" for path, m in module.named_modules() for kind in kinds if len(getattr(m, kind))]
    return hooks + [f"{name}:tensor" for name, p in module.named_parameters() if p._backward_hooks]


# --- networks ---


def build(make: Callable[[], nn.Module]) -> nn.Module:
    """Make a network in float64 whose parameters are away from their special initial values."""
    torch.manual_seed(0)
    module = make().double()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return module


class Net(nn.Module):
    """Layers by name, and a function as the forward pass."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **layers: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


class MeanOverTime(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class Recurrent(nn.Module):
    """A recurrent layer, whose last state has the batch in its second dimension; LSTM's initial state is a tuple."""

    def __init__(self, kind: str, *, has_initial_state: bool) -> None:
        super().__init__()
        self.cell = getattr(nn, kind)(3, 6, batch_first=True)
        self.out = nn.Linear(6, NUM_CLASSES)
        self.has_initial_state = has_initial_state

    def forward(self, x: Tensor) -> Tensor:
        zeros = torch.zeros(1, len(x), 6, dtype=x.dtype)
        state: Any = (zeros, zeros) if isinstance(self.cell, nn.LSTM) else zeros
        outputs, _ = self.cell(x, state) if self.has_initial_state else self.cell(x)
        return self.out(outputs.mean(1))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, NUM_CLASSES))


def tied_layers() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, NUM_CLASSES))
    net[2].weight = net[0].weight
    return net


def layer_with_two_names() -> nn.Module:
    shared = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6))
    return nn.Sequential(shared, nn.Tanh(), nn.Sequential(shared, nn.Tanh()), nn.Linear(6, NUM_CLASSES))


def image_head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, NUM_CLASSES)]


# Networks that map (B, 6) to (B, NUM_CLASSES).
VECTOR_NETS: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "no_bias": lambda: nn.Sequential(nn.Linear(6, 8, bias=False), nn.Tanh(), nn.Linear(8, NUM_CLASSES, bias=False)),
    "inplace": lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, NUM_CLASSES)),
    "layer_norm": lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, NUM_CLASSES)),
    "layer_norm_without_weights": lambda: nn.Sequential(
        nn.Linear(6, 8), nn.LayerNorm(8, elementwise_affine=False), nn.Linear(8, NUM_CLASSES)
    ),
    "prelu": lambda: nn.Sequential(
        nn.Linear(6, 8), nn.PReLU(), nn.Linear(8, 8), nn.PReLU(8), nn.Linear(8, NUM_CLASSES)
    ),
    "weight_norm": lambda: nn.Sequential(weight_norm(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, NUM_CLASSES)),
    "dropout_of_0": lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.0), nn.Linear(8, NUM_CLASSES)),
    "scale": lambda: Net(
        lambda s, x: s.scale * s.out(x * s.gain), scale=nn.Parameter(torch.tensor(1.5)),
        gain=nn.Parameter(torch.ones(6)), out=nn.Linear(6, NUM_CLASSES),
    ),
    "residual": lambda: Net(
        lambda s, x: s.out(x + s.a(x).tanh()), a=nn.Linear(6, 6), out=nn.Linear(6, NUM_CLASSES),
    ),
    "used_twice": lambda: Net(
        lambda s, x: s.out(s.a(s.a(x).tanh()).tanh()), a=nn.Linear(6, 6), out=nn.Linear(6, NUM_CLASSES),
    ),
    "used_three_times_with_a_norm": lambda: Net(
        lambda s, x: s.out(s.norm(s.a(s.norm(s.a(x).tanh())).tanh())), a=nn.Linear(6, 6), norm=nn.LayerNorm(6),
        out=nn.Linear(6, NUM_CLASSES),
    ),
    "part_unused": lambda: Net(lambda s, x: s.out(x), spare=nn.Linear(6, 6), out=nn.Linear(6, NUM_CLASSES)),
    "part_detached": lambda: Net(
        lambda s, x: s.out(s.a(x).detach() + s.b(x)), a=nn.Linear(6, 6), b=nn.Linear(6, 6),
        out=nn.Linear(6, NUM_CLASSES),
    ),
    "weights_used_by_hand": lambda: Net(
        lambda s, x: F.linear(s.a(x).tanh(), s.out.weight) + s.out.bias, a=nn.Linear(6, 8),
        out=nn.Linear(8, NUM_CLASSES),
    ),
    "batch_norm": lambda: nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, NUM_CLASSES)
    ).eval(),
}  # fmt: skip


# --- layers for images, which map (B, 2, 7, 8) to (B, 6, ...) ---


def image_net(make_layers: Callable[[], list[nn.Module]]) -> nn.Module:
    return build(lambda: nn.Sequential(*make_layers(), nn.Tanh(), *image_head(6)))


def assert_image_norms_agree(make_layers: Callable[[], list[nn.Module]]) -> None:
    images = random_inputs(NUM_SAMPLES, 2, 7, 8)
    assert_norms_agree(image_net(make_layers), F.cross_entropy, images, random_labels(NUM_SAMPLES))


def assert_ghost_norms_in_chunks_agree(
    make_layers: Callable[[], list[nn.Module]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare with the references, where every convolution uses the ghost norm, for one sample at a time."""
    monkeypatch.setattr(convolution.Convolution, "ghost_cost", 0)
    monkeypatch.setattr(base, "CPU_CHUNK_VALUES", 1)
    assert_image_norms_agree(make_layers)


def assert_single_precision_agrees(make_layers: Callable[[], list[nn.Module]], layout: torch.memory_format) -> None:
    """Compare norms and weighted gradients in float32 with those in float64."""
    net = image_net(make_layers)
    x, y = random_inputs(NUM_SAMPLES, 2, 7, 8), random_labels(NUM_SAMPLES)
    expected = norms_by_loop(net, F.cross_entropy, x, y)
    single = deepcopy(net).float().to(memory_format=layout)
    weights = torch.arange(NUM_SAMPLES) / NUM_SAMPLES
    with GradientNorms(single) as gradient_norms:
        losses = F.cross_entropy(single(x.float().to(memory_format=layout)), y, reduction="none")
        torch.testing.assert_close(gradient_norms.compute(losses).double(), expected, rtol=1e-5, atol=0)
        gradient_norms.reweighted(losses, weights).sum().backward()
    (F.cross_entropy(net(x), y, reduction="none") * torch.arange(NUM_SAMPLES) / NUM_SAMPLES).sum().backward()
    for ours, theirs in zip(single.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6, check_dtype=False)
