"""Norms of per-sample gradients against a loop of single samples and torch.func, and the exchange of BatchNorm."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import weight_norm

import noisylabels_pl
from noisylabels_pl.functional import loss_layer_gradient_norm
from noisylabels_pl.per_sample import GradientNorms, batchnorm_to_groupnorm, per_sample_gradient_norms
from noisylabels_pl.per_sample.layers import base, convolution

Loss = Callable[[Tensor, Tensor], Tensor]
ROWS, CLASSES = 5, 4


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def looped(module: nn.Module, loss_fn: Loss, x: Tensor, y: Tensor) -> Tensor:
    """A batch of one sample after another."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    norms = []
    for i in range(len(x)):
        loss = loss_fn(module(x[i : i + 1]), y[i : i + 1]).mean()
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        norms.append(torch.stack([g.double().square().sum() for g in found if g is not None]).sum().sqrt())
    return torch.stack(norms)


def mapped(module: nn.Module, loss_fn: Loss, x: Tensor, y: Tensor) -> Tensor:
    """The same by torch.func; tied parameters count once."""
    module = deepcopy(module)  # functional_call leaves a layer that has two names with the wrong parameters
    trainable = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss_fn(functional_call(module, parameters, (x[None],)), y[None]).mean()

    found = vmap(grad(loss), in_dims=(None, 0, 0))(trainable, x, y)
    return sum(g.double().reshape(len(x), -1).square().sum(1) for g in found.values()).sqrt()  # type: ignore[union-attr]


def assert_agrees(
    module: nn.Module, loss_fn: Loss, x: Tensor, y: Tensor, *, by_func: bool = True, rtol: float = 1e-5
) -> None:
    expected = looped(module, loss_fn, x, y)
    assert expected.isfinite().all()
    assert expected.max() > 0
    if by_func:
        torch.testing.assert_close(mapped(module, loss_fn, x, y), expected, rtol=rtol, atol=1e-9)
    norms = per_sample_gradient_norms(module, loss_fn, x, y)
    assert norms.shape == (len(x),)
    torch.testing.assert_close(norms.detach().double(), expected, rtol=rtol, atol=1e-9)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(*shape: int, classes: int = CLASSES, seed: int = 1) -> Tensor:
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed))


def built(make: Callable[[], nn.Module]) -> nn.Module:
    """In float64, with parameters away from their special initial values."""
    torch.manual_seed(0)
    module = make().double()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return module


class Net(nn.Module):
    """Layers by name and a forward of its own."""

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


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, CLASSES))


def test_it_is_exported_at_the_top() -> None:
    assert noisylabels_pl.per_sample_gradient_norms is per_sample_gradient_norms


# --- the loss ---

mean_squares, sum_squares = nn.MSELoss(), nn.MSELoss(reduction="sum")
weight = torch.tensor([1.0, 5.0, 0.1, 2.0], dtype=torch.float64)
losses: dict[str, tuple[Loss, bool]] = {
    "cross_entropy": (F.cross_entropy, True),
    "cross_entropy_sum": (nn.CrossEntropyLoss(reduction="sum"), True),
    "cross_entropy_none": (nn.CrossEntropyLoss(reduction="none"), True),
    "weighted_mean": (nn.CrossEntropyLoss(weight=weight), True),  # the weight of one sample cancels
    "weighted_sum": (nn.CrossEntropyLoss(weight=weight, reduction="sum"), True),
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.2), True),
    "squares_mean": (mean_squares, False),
    "squares_sum": (sum_squares, False),
    "squares_none": (nn.MSELoss(reduction="none"), False),
    "huber": (nn.HuberLoss(), False),
    "own": (lambda output, target: (output - target).abs().sum(1) ** 2, False),
}


@pytest.mark.parametrize("rows", [1, 2, ROWS])
@pytest.mark.parametrize("name", losses)
def test_any_reduction(name: str, rows: int) -> None:
    loss_fn, classification = losses[name]
    assert_agrees(
        built(mlp), loss_fn, normal(rows, 6), labels(rows) if classification else normal(rows, CLASSES, seed=1)
    )


def test_reductions_that_agree_for_one_sample() -> None:
    net, x, y = built(mlp), normal(ROWS, 6), normal(ROWS, CLASSES, seed=1)
    norms = per_sample_gradient_norms(net, mean_squares, x, y)
    torch.testing.assert_close(norms, per_sample_gradient_norms(net, nn.MSELoss(reduction="none"), x, y))
    torch.testing.assert_close(CLASSES * norms, per_sample_gradient_norms(net, sum_squares, x, y))


def test_outputs_of_single_numbers() -> None:
    net = built(lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0)))
    assert_agrees(net, mean_squares, normal(ROWS, 6), normal(ROWS, seed=1))


def test_soft_targets() -> None:
    assert_agrees(built(mlp), F.cross_entropy, normal(ROWS, 6), normal(ROWS, CLASSES, seed=1).softmax(1))


def test_one_layer_in_closed_form() -> None:
    net, x, y = built(lambda: nn.Linear(6, CLASSES)), normal(ROWS, 6), labels(ROWS)
    expected = loss_layer_gradient_norm(net(x), y).detach() * (x.square().sum(1) + 1).sqrt()
    torch.testing.assert_close(per_sample_gradient_norms(net, F.cross_entropy, x, y).detach(), expected)


def test_single_precision() -> None:
    torch.manual_seed(0)
    net, x, y = mlp(), normal(32, 6), labels(32)
    norms = per_sample_gradient_norms(net, F.cross_entropy, x.float(), y)
    expected = looped(deepcopy(net).double(), F.cross_entropy, x, y)
    torch.testing.assert_close(norms.detach().double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("steps", [2, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_zero_are_zero_and_not_nan(dtype: torch.dtype, steps: int) -> None:
    net, x = built(lambda: nn.Linear(3, 2)).to(dtype), normal(4, steps, 3).to(dtype)
    with torch.no_grad():
        y = net(x) + normal(4, steps, 2, seed=1).to(dtype)
        y[0] = net(x)[0]  # every step is right
        x[1] = x[1, :1]
        error = normal(steps // 2, 2, seed=2).to(dtype)
        y[1] = net(x)[1] + torch.cat([error, -error])  # the steps' gradients cancel
    norms = per_sample_gradient_norms(net, mean_squares, x, y).detach()
    assert norms.isfinite().all()
    assert (norms[:2] <= (1e-3 if dtype == torch.float32 else 1e-6)).all()
    assert (norms[2:] > 1e-2).all()


# --- layers ---


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]


vectors: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "no_bias": lambda: nn.Sequential(nn.Linear(6, 8, bias=False), nn.Tanh(), nn.Linear(8, CLASSES, bias=False)),
    "inplace": lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, CLASSES)),
    "layer_norm": lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, CLASSES)),
    "layer_norm_without_weights": lambda: nn.Sequential(
        nn.Linear(6, 8), nn.LayerNorm(8, elementwise_affine=False), nn.Linear(8, CLASSES)
    ),
    "prelu": lambda: nn.Sequential(nn.Linear(6, 8), nn.PReLU(), nn.Linear(8, 8), nn.PReLU(8), nn.Linear(8, CLASSES)),
    "weight_norm": lambda: nn.Sequential(weight_norm(nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, CLASSES)),
    "dropout_of_0": lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.0), nn.Linear(8, CLASSES)),
    "scale": lambda: Net(
        lambda s, x: s.scale * s.out(x * s.gain), scale=nn.Parameter(torch.tensor(1.5)),
        gain=nn.Parameter(torch.ones(6)), out=nn.Linear(6, CLASSES),
    ),
    "residual": lambda: Net(
        lambda s, x: s.out(x + s.a(x).tanh()), a=nn.Linear(6, 6), out=nn.Linear(6, CLASSES),
    ),
    "used_twice": lambda: Net(
        lambda s, x: s.out(s.a(s.a(x).tanh()).tanh()), a=nn.Linear(6, 6), out=nn.Linear(6, CLASSES),
    ),
    "used_three_times_with_a_norm": lambda: Net(
        lambda s, x: s.out(s.norm(s.a(s.norm(s.a(x).tanh())).tanh())), a=nn.Linear(6, 6), norm=nn.LayerNorm(6),
        out=nn.Linear(6, CLASSES),
    ),
    "part_unused": lambda: Net(lambda s, x: s.out(x), spare=nn.Linear(6, 6), out=nn.Linear(6, CLASSES)),
    "part_detached": lambda: Net(
        lambda s, x: s.out(s.a(x).detach() + s.b(x)), a=nn.Linear(6, 6), b=nn.Linear(6, 6), out=nn.Linear(6, CLASSES)
    ),
    "weights_used_by_hand": lambda: Net(
        lambda s, x: F.linear(s.a(x).tanh(), s.out.weight) + s.out.bias, a=nn.Linear(6, 8), out=nn.Linear(8, CLASSES)
    ),
    "batch_norm": lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES)).eval(),
}  # fmt: skip


@pytest.mark.parametrize("name", vectors)
def test_nets_of_vectors(name: str) -> None:
    net = built(vectors[name])
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    assert_agrees(net, F.cross_entropy, normal(ROWS, 6), labels(ROWS))


def tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, CLASSES))
    net[2].weight = net[0].weight
    return net


def layer_of_two_names() -> nn.Module:
    shared = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6))
    return nn.Sequential(shared, nn.Tanh(), nn.Sequential(shared, nn.Tanh()), nn.Linear(6, CLASSES))


def test_tied_weights_of_two_layers() -> None:
    net, x, y = built(tied), normal(ROWS, 6), labels(ROWS)
    assert net[2].weight is net[0].weight  # type: ignore[index]
    assert_agrees(net, F.cross_entropy, x, y)
    untied = deepcopy(net)
    untied[2].weight = nn.Parameter(net[0].weight.detach().clone())  # type: ignore[index]
    apart = per_sample_gradient_norms(untied, F.cross_entropy, x, y)
    assert not torch.allclose(per_sample_gradient_norms(net, F.cross_entropy, x, y), apart, rtol=1e-3)


def test_a_layer_of_two_names() -> None:
    net, x, y = built(layer_of_two_names), normal(ROWS, 6), labels(ROWS)
    for _ in range(2):
        assert_agrees(net, F.cross_entropy, x, y)


@pytest.mark.parametrize(
    "frozen", [["0.weight"], ["0.weight", "0.bias"], ["2.bias", "4.weight"], ["4.weight", "4.bias"]]
)
def test_frozen_parameters_do_not_count(frozen: list[str]) -> None:
    net, x, y = built(mlp), normal(ROWS, 6), labels(ROWS)
    everything = per_sample_gradient_norms(net, F.cross_entropy, x, y)
    for name in frozen:
        net.get_parameter(name).requires_grad_(False)
    assert_agrees(net, F.cross_entropy, x, y)
    assert (per_sample_gradient_norms(net, F.cross_entropy, x, y) < everything).all()
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == frozen


@pytest.mark.parametrize(("steps", "width"), [(1, 7), (2, 16), (64, 3), (ROWS, 6)])
@pytest.mark.parametrize("per_step", [False, True])
def test_linear_layers_on_sequences(steps: int, width: int, per_step: bool) -> None:
    layers: list[nn.Module] = [nn.Linear(width, 6), nn.Tanh(), nn.Linear(6, CLASSES)]
    net = built(lambda: nn.Sequential(*layers, *([] if per_step else [MeanOverTime()])))
    x = normal(ROWS, steps, width)
    if per_step:
        assert_agrees(net, lambda o, t: F.cross_entropy(o.transpose(1, 2), t), x, labels(ROWS, steps))
    else:
        assert_agrees(net, F.cross_entropy, x, labels(ROWS))


def test_linear_layers_on_grids() -> None:
    net = built(lambda: nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)))
    assert_agrees(net, mean_squares, normal(ROWS, 2, 4, 3), normal(ROWS, 2, 4, 2, seed=1))


images: dict[str, Callable[[], list[nn.Module]]] = {
    "plain": lambda: [nn.Conv2d(2, 6, 3)],
    "padded": lambda: [nn.Conv2d(2, 6, 3, padding=1)],
    "strided": lambda: [nn.Conv2d(2, 6, 3, stride=2, padding=1)],
    "strided_with_a_rest": lambda: [nn.Conv2d(2, 6, 2, stride=3)],
    "dilated": lambda: [nn.Conv2d(2, 6, 3, dilation=2, padding=2)],
    "uneven": lambda: [nn.Conv2d(2, 6, (1, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2))],
    "grouped": lambda: [nn.Conv2d(2, 6, 3, groups=2)],
    "depthwise": lambda: [nn.Conv2d(2, 6, 1), nn.Conv2d(6, 6, 3, groups=6, padding=1)],
    "no_bias": lambda: [nn.Conv2d(2, 6, 3, bias=False)],
    "pointwise": lambda: [nn.Conv2d(2, 6, 1)],
    "same": lambda: [nn.Conv2d(2, 6, 4, padding="same", dilation=(1, 2))],
    "valid": lambda: [nn.Conv2d(2, 6, 3, padding="valid")],
    "circular": lambda: [nn.Conv2d(2, 6, 3, padding=1, padding_mode="circular")],
    "reflected": lambda: [nn.Conv2d(2, 6, 3, padding=(2, 1), padding_mode="reflect", stride=2)],
    "everything": lambda: [nn.Conv2d(2, 6, 3, stride=2, padding=3, dilation=2, groups=2, bias=False)],
    "transposed": lambda: [nn.ConvTranspose2d(2, 6, 3)],
    "transposed_with_options": lambda: [
        nn.Conv2d(2, 4, 1), nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2)
    ],
    "wide": lambda: [nn.Conv2d(2, 40, 3, padding=1), nn.Tanh(), nn.Conv2d(40, 6, 5)],
    "group_norm": lambda: [nn.Conv2d(2, 6, 3), nn.GroupNorm(3, 6)],
    "instance_norm": lambda: [nn.Conv2d(2, 6, 3), nn.InstanceNorm2d(6, affine=True)],
    "layer_norm": lambda: [nn.Conv2d(2, 6, 3), nn.LayerNorm([6, 5, 6])],
    "prelu": lambda: [nn.Conv2d(2, 6, 3), nn.PReLU(6)],
    "weight_norm": lambda: [weight_norm(nn.Conv2d(2, 6, 3, padding=1))],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", images)
def test_nets_of_images(name: str) -> None:
    net = built(lambda: nn.Sequential(*images[name](), nn.Tanh(), *head(6)))
    assert_agrees(net, F.cross_entropy, normal(ROWS, 2, 7, 8), labels(ROWS))


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", images)
def test_nets_of_images_by_pairs_of_positions_one_sample_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution.Convolution, "gram_cost", 0)
    monkeypatch.setitem(base.CHUNK, "cpu", 1)
    test_nets_of_images(name)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", images)
def test_nets_of_images_in_single_precision(name: str, layout: torch.memory_format) -> None:
    net = built(lambda: nn.Sequential(*images[name](), nn.Tanh(), *head(6)))
    x, y = normal(ROWS, 2, 7, 8), labels(ROWS)
    expected = looped(net, F.cross_entropy, x, y)
    single = deepcopy(net).float().to(memory_format=layout)
    with GradientNorms(single) as norms:
        losses = F.cross_entropy(single(x.float().to(memory_format=layout)), y, reduction="none")
        torch.testing.assert_close(norms.of(losses).double(), expected, rtol=1e-5, atol=0)
        norms.weighted(losses, torch.arange(ROWS) / ROWS).sum().backward()
    (F.cross_entropy(net(x), y, reduction="none") * torch.arange(ROWS) / ROWS).sum().backward()
    for ours, theirs in zip(single.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6, check_dtype=False)


def test_a_batch_norm_at_rest_between_convolutions() -> None:
    net = built(lambda: nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), *head(6)))
    net[1].eval()  # type: ignore[index]  # the rest trains
    net[1].running_mean.normal_()  # type: ignore[index, union-attr, operator]
    net[1].running_var.uniform_(0.5, 2)  # type: ignore[index, union-attr, operator]
    before = deepcopy(net.state_dict())
    assert_agrees(net, F.cross_entropy, normal(ROWS, 2, 7, 8), labels(ROWS))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 2}, {"dilation": 2, "groups": 2, "bias": False}])
def test_one_dimensional_convolutions(options: dict[str, Any]) -> None:
    net = built(
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3, **options), nn.Tanh(), nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(8, CLASSES)
        )
    )
    assert_agrees(net, F.cross_entropy, normal(ROWS, 2, 11), labels(ROWS))


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"groups": 2, "bias": False}])
def test_three_dimensional_convolutions(options: dict[str, Any]) -> None:
    net = built(
        lambda: nn.Sequential(
            nn.Conv3d(2, 4, 2, **options), nn.Tanh(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, CLASSES)
        )
    )
    assert_agrees(net, F.cross_entropy, normal(ROWS, 2, 4, 3, 5), labels(ROWS))


class Block(nn.Module):
    """As in the public ResNets: in-place activations and an in-place sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.GroupNorm(2, channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.GroupNorm(2, channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        out += x
        return self.relu(out)


def test_a_residual_net_with_inplace_layers() -> None:
    net = built(
        lambda: nn.Sequential(
            nn.Conv2d(2, 8, 3, stride=2), nn.GroupNorm(4, 8), nn.ReLU(inplace=True), Block(8), Block(8), *head(8)
        )
    )
    assert_agrees(net, F.cross_entropy, normal(ROWS, 2, 9, 9), labels(ROWS))


@pytest.mark.parametrize("padding_idx", [None, 0])
def test_embeddings_with_repeated_tokens(padding_idx: int | None) -> None:
    net = built(
        lambda: nn.Sequential(nn.Embedding(5, 6, padding_idx=padding_idx), MeanOverTime(), nn.Linear(6, CLASSES))
    )
    x = labels(ROWS, 9, classes=5)
    x[0] = 3
    x[1] = 0
    assert_agrees(net, F.cross_entropy, x, labels(ROWS))


def test_embeddings_of_one_token() -> None:
    net = built(lambda: nn.Sequential(nn.Embedding(5, 6), nn.Linear(6, CLASSES)))
    assert_agrees(net, F.cross_entropy, labels(ROWS, classes=5), labels(ROWS))


class ByName(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(input=self.embed(input=x))


def test_inputs_by_name() -> None:
    assert_agrees(built(ByName), F.cross_entropy, labels(ROWS, classes=5), labels(ROWS))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_network(backend: str) -> None:
    """Its lengths, and that its graph can still be passed by the training."""
    plain = built(lambda: nn.Sequential(nn.Conv2d(2, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), *head(8)))
    x, y = normal(ROWS, 2, 9, 9), labels(ROWS)
    expected = per_sample_gradient_norms(plain, F.cross_entropy, x, y)
    torch.compiler.reset()
    net = deepcopy(plain)
    net.compile(backend=backend)
    with GradientNorms(net) as norms:
        losses = F.cross_entropy(net(x), y, reduction="none")
        torch.testing.assert_close(norms.of(losses), expected)
        norms.weighted(losses, torch.ones(ROWS, dtype=losses.dtype)).sum().backward()
    F.cross_entropy(plain(x), y, reduction="sum").backward()
    for one, other in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def per_token(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output.transpose(1, 2), target)


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_tied_embedding_and_output_layer(by_hand: bool) -> None:
    def make() -> nn.Module:
        embed, mid = nn.Embedding(7, 6), nn.Linear(6, 6)
        if by_hand:
            return Net(lambda s, x: s.mid(s.embed(x)).tanh() @ s.embed.weight.T, embed=embed, mid=mid)
        net = nn.Sequential(embed, mid, nn.Tanh(), nn.Linear(6, 7, bias=False))
        net[3].weight = embed.weight
        return net

    assert_agrees(built(make), per_token, labels(ROWS, 4, classes=7), labels(ROWS, 4, classes=7, seed=2))


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_transformer_block(norm_first: bool) -> None:
    net = built(
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True, norm_first=norm_first),
            MeanOverTime(),
            nn.Linear(8, CLASSES),
        )
    )
    assert_agrees(net, F.cross_entropy, normal(ROWS, 6, 8), labels(ROWS), by_func=False)


@pytest.mark.parametrize("steps", [3, ROWS])
@pytest.mark.parametrize("kind", ["parameter", "rows", "layer"])
def test_learned_positions(kind: str, steps: int) -> None:
    """A parameter, or an embedding whose input has no batch dimension, whatever the number of steps."""

    def forward(s: Any, x: Tensor) -> Tensor:
        if kind == "parameter":
            positions = s.table
        elif kind == "rows":
            positions = s.table.weight[: x.shape[1]]
        else:
            positions = s.table(torch.arange(x.shape[1]))
        return s.out((s.embed(x) + positions).tanh().mean(1))

    def make() -> nn.Module:
        table = nn.Parameter(torch.randn(1, steps, 6)) if kind == "parameter" else nn.Embedding(steps + 2, 6)
        return Net(forward, table=table, embed=nn.Linear(3, 6), out=nn.Linear(6, CLASSES))

    assert_agrees(built(make), F.cross_entropy, normal(ROWS, steps, 3), labels(ROWS))


def flattened(s: Any, x: Tensor) -> Tensor:
    return s.out(s.a(x.flatten(0, 1)).tanh().unflatten(0, x.shape[:2]).mean(1))


def transposed(s: Any, x: Tensor) -> Tensor:
    return s.out(s.a(x.transpose(0, 1)).tanh().mean(0))


def swapped_with_scale(s: Any, x: Tensor) -> Tensor:
    return s.out(s.norm(s.a(x.transpose(0, 1))).mean(0))


@pytest.mark.parametrize("steps", [3, ROWS])
@pytest.mark.parametrize("forward", [flattened, transposed, swapped_with_scale])
def test_nets_that_move_the_batch_dimension(forward: Callable[[Any, Tensor], Tensor], steps: int) -> None:
    """A layer's first dimension need not be the batch, even where it has its size."""
    net = built(lambda: Net(forward, a=nn.Linear(3, 6), norm=nn.LayerNorm(6), out=nn.Linear(6, CLASSES)))
    assert_agrees(net, F.cross_entropy, normal(ROWS, steps, 3), labels(ROWS))


@pytest.mark.parametrize("steps", [3, ROWS])
def test_a_transformer_block_with_the_steps_first(steps: int) -> None:
    net = built(
        lambda: Net(
            lambda s, x: s.out(s.block(x.transpose(0, 1)).mean(0)),
            block=nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0),
            out=nn.Linear(8, CLASSES),
        )
    )
    assert_agrees(net, F.cross_entropy, normal(ROWS, steps, 8), labels(ROWS), by_func=False)


# --- mixed precision ---


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_norms_under_autocast(kind: str) -> None:
    torch.manual_seed(0)
    if kind == "mlp":
        net: nn.Module = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        x = torch.randn(8, 20)
    else:
        net = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 16, 3), *head(16)
        )
        x = torch.randn(8, 3, 8, 8)
    y = labels(8)
    expected = per_sample_gradient_norms(net, F.cross_entropy, x, y).detach().float()
    with torch.autocast("cpu", torch.bfloat16):
        norms = per_sample_gradient_norms(net, F.cross_entropy, x, y)
    torch.testing.assert_close(norms.detach().float(), expected, rtol=0.02, atol=0)
    assert all(p.dtype == torch.float32 for p in net.parameters())


# --- what is refused ---


def test_batch_norm_in_training_is_refused_by_name() -> None:
    features = nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 4, 3), bn=nn.BatchNorm2d(4), act=nn.ReLU()))
    net = nn.Sequential(OrderedDict(features=features, head=nn.Sequential(*head(4)))).double()
    with pytest.raises(ValueError, match=r"(?s)(?=.*\bfeatures\.bn\b)(?=.*\bconvert_batchnorm\b)"):
        per_sample_gradient_norms(net, F.cross_entropy, normal(ROWS, 2, 6, 6), labels(ROWS))
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, CLASSES)).double()
    before = deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=r"(?s)(?=.*\b1\b)(?=.*\bconvert_batchnorm\b)"):
        per_sample_gradient_norms(net, F.cross_entropy, normal(ROWS, 6), labels(ROWS))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert hooks_of(net) == []
    assert_agrees(net.eval(), F.cross_entropy, normal(ROWS, 6), labels(ROWS))


# --- dropout ---


def test_dropout_of_the_forward_pass_that_was_made() -> None:
    net, x, y = (
        built(lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, CLASSES))),
        normal(ROWS, 6),
        labels(ROWS),
    )
    torch.manual_seed(7)
    norms = per_sample_gradient_norms(net, F.cross_entropy, x, y).detach()
    torch.manual_seed(7)
    masks = F.dropout(torch.ones(ROWS, 8, dtype=torch.float64), 0.5)
    parameters = list(net.parameters())
    expected = []
    for i in range(ROWS):
        hidden = net[0](x[i : i + 1]) * masks[i]  # type: ignore[index, operator]
        found = torch.autograd.grad(F.cross_entropy(net[2](hidden), y[i : i + 1]), parameters)  # type: ignore[index, operator]
        expected.append(torch.cat([g.flatten() for g in found]).norm())
    torch.testing.assert_close(norms, torch.stack(expected), rtol=1e-5, atol=0)
    torch.manual_seed(8)
    other = per_sample_gradient_norms(net, F.cross_entropy, x, y).detach()
    assert not torch.allclose(norms, other, rtol=1e-3)
    assert_agrees(net.eval(), F.cross_entropy, x, y)


# --- what stays as it was ---


def hooks_of(module: nn.Module) -> list[str]:
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    found = [f"{path}:{name}" for path, m in module.named_modules() for name in names if len(getattr(m, name))]
    return found + [f"{name}:tensor" for name, p in module.named_parameters() if p._backward_hooks]


def everything_in() -> nn.Module:
    table = nn.Parameter(torch.ones(8))
    return Net(
        lambda s, x: s.out(s.act(s.norm(s.twice(s.twice(s.first(x)))) * s.table)), first=nn.Linear(6, 8),
        twice=nn.Linear(8, 8), norm=nn.LayerNorm(8), act=nn.ReLU(inplace=True), table=table, out=nn.Linear(8, CLASSES),
    )  # fmt: skip


@pytest.mark.parametrize("make", [mlp, everything_in, layer_of_two_names, tied])
def test_it_leaves_no_trace(make: Callable[[], nn.Module]) -> None:
    net, x, y = built(make), normal(ROWS, 6), labels(ROWS)
    flags = {}
    for i, (name, module) in enumerate(net.named_modules()):
        module.training = i % 2 == 0
        flags[name] = module.training
    attributes = {name: set(vars(module)) for name, module in net.named_modules()}
    values, inputs, parameters = (
        deepcopy(net.state_dict()),
        x.clone(),
        dict(net.named_parameters(remove_duplicate=False)),
    )
    state = torch.get_rng_state()
    per_sample_gradient_norms(net, F.cross_entropy, x, y)
    assert hooks_of(net) == []
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert {name: module.training for name, module in net.named_modules()} == flags
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: set(vars(module)) for name, module in net.named_modules()} == attributes
    assert all(torch.equal(value, values[name]) for name, value in net.state_dict().items())
    left = dict(net.named_parameters(remove_duplicate=False))
    assert left.keys() == parameters.keys()
    assert all(left[name] is p for name, p in parameters.items())
    assert torch.equal(x, inputs)
    assert not x.requires_grad


def test_the_random_state_stays_with_dropout_as_well() -> None:
    net = built(lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, CLASSES)))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    per_sample_gradient_norms(net, F.cross_entropy, normal(ROWS, 6), labels(ROWS))
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_and_hooks_of_others_stay() -> None:
    net, x, y = built(mlp), normal(ROWS, 6), labels(ROWS)
    F.cross_entropy(net(x), y).backward()
    gradients = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    assert len(gradients) == 6
    handle = net[0].register_forward_hook(lambda *_: None)  # type: ignore[index]
    per_sample_gradient_norms(net, F.cross_entropy, x, y)
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True) if p.grad is not None)
    assert all(p.grad is not None for p in net.parameters())
    assert hooks_of(net) == ["0:_forward_hooks"]
    handle.remove()
    assert hooks_of(net) == []


def test_no_trace_after_an_error_either() -> None:
    net, x, y = built(mlp), normal(ROWS, 6), labels(ROWS)
    state = torch.get_rng_state()

    def broken(*_: Tensor) -> Tensor:
        raise RuntimeError("the loss is broken")

    with pytest.raises(RuntimeError, match="the loss is broken"):
        per_sample_gradient_norms(net, broken, x, y)
    assert hooks_of(net) == []
    assert net.training
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert_agrees(net, F.cross_entropy, x, y)


def test_training_goes_on_undisturbed() -> None:
    net, x, y = built(mlp), normal(ROWS, 6), labels(ROWS)
    twin = deepcopy(net)
    per_sample_gradient_norms(net, F.cross_entropy, x, y)
    for model in (net, twin):
        F.cross_entropy(model(x), y).backward()
    for p, other in zip(net.parameters(), twin.parameters(), strict=True):
        assert p.grad is not None
        assert other.grad is not None
        assert torch.equal(p.grad, other.grad)


# --- batchnorm_to_groupnorm ---


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (7, 7), (16, 16), (32, 32), (33, 1), (40, 8), (48, 16), (64, 32), (100, 4)]
)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_groups_of_image_norms(dimensions: int, channels: int, groups: int) -> None:
    old = (nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm3d)(channels, eps=3e-4).double()
    nn.init.normal_(old.weight)
    nn.init.normal_(old.bias)
    new = batchnorm_to_groupnorm(old)
    assert isinstance(new, nn.GroupNorm)
    assert (new.num_groups, new.num_channels, new.eps) == (groups, channels, 3e-4)
    assert groups == (min(32, channels) if channels % min(32, channels) == 0 else math.gcd(32, channels))
    assert torch.equal(new.weight, old.weight)
    assert torch.equal(new.bias, old.bias)
    x = normal(2, channels, *[3] * dimensions)
    torch.testing.assert_close(new(x), F.group_norm(x, groups, old.weight, old.bias, 3e-4))


@pytest.mark.parametrize("channels", [1, 8, 33, 64])
def test_groups_of_vector_norms(channels: int) -> None:
    old = nn.BatchNorm1d(channels, eps=2e-3).double()
    nn.init.normal_(old.weight)
    nn.init.normal_(old.bias)
    new = batchnorm_to_groupnorm(old)
    assert isinstance(new, nn.GroupNorm)
    assert (new.num_groups, new.num_channels, new.eps) == (1, channels, 2e-3)
    x = normal(4, channels)
    torch.testing.assert_close(new(x), F.layer_norm(x, (channels,), old.weight, old.bias, 2e-3))


def test_a_net_is_converted_in_place() -> None:
    inner = nn.Sequential(nn.Conv2d(4, 64, 1), nn.BatchNorm2d(64, affine=False), nn.ReLU())
    net = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(2, 4, 3), bn=nn.BatchNorm2d(4), inner=inner, pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(), bn1=nn.BatchNorm1d(64), out=nn.Linear(64, CLASSES),
        )
    ).double()  # fmt: skip
    untouched = [net.conv, inner[0], net.out]
    assert batchnorm_to_groupnorm(net) is net
    assert not any(isinstance(module, _BatchNorm) for module in net.modules())
    assert [net.conv, net.inner[0], net.out] == untouched
    kinds = [(m.num_groups, m.num_channels) for m in net.modules() if isinstance(m, nn.GroupNorm)]
    assert kinds == [(4, 4), (32, 64), (1, 64)]
    assert net.inner[1].weight is None
    assert not any("running" in name for name in net.state_dict())
    assert all(p.dtype == torch.float64 for p in net.parameters())
    x, y = normal(ROWS, 2, 6, 6), labels(ROWS)
    torch.testing.assert_close(net(x), torch.cat([net(x[i : i + 1]) for i in range(ROWS)]))
    assert_agrees(net, F.cross_entropy, x, y)


def test_a_shared_batch_norm_stays_shared() -> None:
    bn = nn.BatchNorm2d(4)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), bn, nn.Conv2d(4, 4, 3), nn.Sequential(bn, nn.ReLU()), *head(4)).double()
    before = sum(p.numel() for p in net.parameters())
    batchnorm_to_groupnorm(net)
    assert not any(isinstance(module, _BatchNorm) for module in net.modules())
    assert isinstance(net[1], nn.GroupNorm)
    assert net[3][0] is net[1]  # type: ignore[index]
    assert sum(p.numel() for p in net.parameters()) == before
    assert_agrees(net, F.cross_entropy, normal(ROWS, 2, 7, 7), labels(ROWS))


def test_conversion_keeps_the_mode() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    batchnorm_to_groupnorm(net)
    assert not any(module.training for module in net.modules())


# --- what only a review found ---


class Recurrent(nn.Module):
    """The last state has the batch in its second dimension, and an initial state is a tuple."""

    def __init__(self, kind: str, *, state: bool) -> None:
        super().__init__()
        self.cell = getattr(nn, kind)(3, 6, batch_first=True)
        self.out = nn.Linear(6, CLASSES)
        self.state = state

    def forward(self, x: Tensor) -> Tensor:
        zeros = torch.zeros(1, len(x), 6, dtype=x.dtype)
        first: Any = (zeros, zeros) if isinstance(self.cell, nn.LSTM) else zeros
        outputs, _ = self.cell(x, first) if self.state else self.cell(x)
        return self.out(outputs.mean(1))


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("kind", ["GRU", "RNN", "LSTM"])
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_recurrent_layers(kind: str, state: bool) -> None:
    net = built(lambda: Recurrent(kind, state=state))
    assert_agrees(net, F.cross_entropy, normal(ROWS, 4, 3), labels(ROWS), by_func=False)


def outside(s: Any, x: Tensor) -> Tensor:
    return F.linear(s.a(x).tanh(), s.out.weight)


def test_a_sample_that_is_not_finite_proves_nothing() -> None:
    """The first batch is checked; where it cannot be, the next one is."""
    net = built(lambda: Net(outside, a=nn.Linear(6, 8), out=nn.Linear(8, CLASSES)))
    x, y = normal(ROWS, 6), labels(ROWS)
    with GradientNorms(net) as norms:
        for spoilt in (True, False):
            given = torch.full_like(x, torch.nan) if spoilt else x
            found = norms.of(F.cross_entropy(net(given), y, reduction="none"))
            norms.forget()
    torch.testing.assert_close(found, per_sample_gradient_norms(net, F.cross_entropy, x, y))
    assert found.isfinite().all()


def test_asking_twice_of_one_pass() -> None:
    net = mlp()
    x, y = normal(ROWS, 6).to(next(net.parameters()).dtype), labels(ROWS)
    with GradientNorms(net) as norms:
        losses = F.cross_entropy(net(x), y, reduction="none")
        once, twice = norms.of(losses), norms.of(2 * losses)
        norms.forget()
        nothing = norms.of(losses)  # of a pass that was forgotten: found by ordinary backward passes
    torch.testing.assert_close(twice, 2 * once)
    torch.testing.assert_close(nothing, once)


@pytest.mark.parametrize("size", [1e-3, 1.0, 500.0])
def test_float16_loses_neither_small_nor_large_gradients(size: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 1))
    x, y = torch.randn(16, 20), size * torch.ones(16, 1)
    with torch.no_grad():
        y += net(x)
    expected = per_sample_gradient_norms(net, nn.MSELoss(), x, y)
    with torch.autocast("cpu", torch.float16):
        found = per_sample_gradient_norms(net, nn.MSELoss(), x, y)
    torch.testing.assert_close(found, expected, rtol=0.3 if size < 0.1 else 0.02, atol=0)


def test_what_works_in_place_costs_no_pass_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """As in torchvision's networks in evaluation mode."""
    net = built(lambda: nn.Sequential(nn.Conv2d(3, 6, 3, padding="same"), nn.ReLU(inplace=True), nn.BatchNorm2d(6),
                                      nn.ReLU(inplace=True), *head(6)).eval())  # fmt: skip
    assert_agrees(net, F.cross_entropy, normal(ROWS, 3, 8, 8), labels(ROWS))
    assert not caplog.records


def test_dropout_within_a_layer_does(caplog: pytest.LogCaptureFixture) -> None:
    net = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.5, batch_first=True)
    x, y = torch.randn(ROWS, 3, 8), torch.randn(ROWS, 3, 8)
    torch.manual_seed(1)
    found = per_sample_gradient_norms(net, nn.MSELoss(), x, y)
    assert "each sample takes a backward pass of its own" in caplog.text
    torch.manual_seed(1)
    output = net(x)
    for i in range(ROWS):
        grads = torch.autograd.grad(F.mse_loss(output[i], y[i]), list(net.parameters()), retain_graph=True)
        torch.testing.assert_close(found[i], torch.cat([grad.flatten() for grad in grads]).norm())


@pytest.mark.parametrize("name", [*vectors, "conv", "same", "embedding", "transformer", "LSTM"])
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_the_cheaper_way_back(name: str) -> None:
    """Weighted losses have the parameters' gradients that they would have through the network."""
    makes: dict[str, Callable[[], nn.Module]] = vectors | {
        "conv": lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3, 2, (1, 2), groups=2), nn.GroupNorm(3, 6), nn.ReLU(inplace=True),
            nn.Conv2d(6, 4, 2, padding=1, dilation=2, padding_mode="circular"), *head(4)),
        "same": lambda: nn.Sequential(nn.Conv2d(4, 6, (3, 2), padding="same"), nn.Tanh(), *head(6)),
        "embedding": lambda: nn.Sequential(nn.Embedding(5, 6, padding_idx=1), MeanOverTime(), nn.Linear(6, CLASSES)),
        "transformer": lambda: nn.Sequential(
            nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True), MeanOverTime(), nn.Linear(8, CLASSES)),
        "LSTM": lambda: Recurrent("LSTM", state=True),
    }  # fmt: skip
    inputs = {"conv": normal(ROWS, 4, 9, 8), "same": normal(ROWS, 4, 9, 8), "embedding": labels(ROWS, 4, classes=5),
              "transformer": normal(ROWS, 3, 8), "LSTM": normal(ROWS, 4, 3)}  # fmt: skip
    net, x, y = built(makes[name]), inputs.get(name, normal(ROWS, 6)), labels(ROWS)
    weights = torch.arange(ROWS, dtype=torch.float64) - 1  # one of them 0
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    with GradientNorms(net) as norms:
        losses = F.cross_entropy(net(x), y, reduction="none")
        norms.of(losses)
        cheap = 3 * norms.weighted(losses, weights).sum()
        found = torch.autograd.grad(cheap, parameters, retain_graph=True, allow_unused=True)
    expected = torch.autograd.grad(3 * (losses * weights).sum(), parameters, allow_unused=True)
    torch.testing.assert_close(cheap.detach(), 3 * (losses * weights).sum().detach())
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)
