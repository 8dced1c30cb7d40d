"""PRL's theory: the examples of section 4, lemma 2 and theorem 3 with its adversary."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisylabels_pl.functional import keep_mask, loss_layer_gradient_norm, robust_mean
from noisylabels_pl.per_sample import per_sample_gradient_norms

ROWS = 40
shares = pytest.mark.parametrize("eps", [0.05, 0.1, 0.25, 0.4, 0.475])
scales = pytest.mark.parametrize("scale", [1e-3, 1e-1, 1.0, 3.0, 1e2, 1e4, 1e6])


# --- section 4: the loss and the norm of its gradient order samples differently ---


def test_the_worked_example() -> None:
    alpha = [0.08, 0.28] + [0.08] * 8
    beta = [0.1, 0.3, 0.34, 0.05, 0.05, 0.1, 0.03, 0.03, 0.0, 0.0]
    p, y = torch.tensor([alpha, beta], dtype=torch.float64), torch.tensor([1, 1])
    torch.testing.assert_close(p.sum(1), torch.ones(2, dtype=torch.float64))
    logits = p.log()
    losses, scores = F.cross_entropy(logits, y, reduction="none"), loss_layer_gradient_norm(logits, y)
    torch.testing.assert_close(losses, torch.tensor([-math.log(0.28), -math.log(0.3)], dtype=torch.float64))
    torch.testing.assert_close(scores, torch.tensor([0.576, 0.6324], dtype=torch.float64).sqrt())
    assert keep_mask(losses, 0.5).tolist() == [False, True]  # the cross-entropy prefers beta
    assert keep_mask(scores, 0.5).tolist() == [True, False]  # the gradient prefers alpha


@pytest.mark.parametrize("q", [2, 3, 5, 10, 100])
def test_lemma_2_is_an_equivalence(q: int) -> None:
    generator = torch.Generator().manual_seed(q)
    pairs, rows = 3000, torch.arange(3000)
    spread = torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64).repeat(pairs // 3)[:, None]
    logits = spread * torch.randn(2, pairs, q, generator=generator, dtype=torch.float64)
    k = torch.randint(0, q, (pairs,), generator=generator)
    logits[1, rows, k] += logits[0].softmax(1)[rows, k].log() - logits[1].softmax(1)[rows, k].log()  # close losses
    first = logits[0].softmax(1)[rows, k] >= logits[1].softmax(1)[rows, k]
    a, b = (torch.where(first[:, None], *order) for order in (logits, logits.flip(0)))
    assert (F.cross_entropy(a, k, reduction="none") <= F.cross_entropy(b, k, reduction="none")).all()
    others = torch.ones(pairs, q, dtype=torch.bool).index_put((rows, k), torch.tensor(False))
    alpha, beta = a.softmax(1), b.softmax(1)
    variances = [p[others].view(pairs, q - 1).var(1, correction=0) for p in (alpha, beta)]
    alpha_k, beta_k = alpha[rows, k], beta[rows, k]
    margin = variances[0] - variances[1] - q / (q - 1) ** 2 * (alpha_k - beta_k) * (2 - alpha_k - beta_k)
    clear = margin.abs() > 1e-13
    above = loss_layer_gradient_norm(a, k) >= loss_layer_gradient_norm(b, k)
    assert torch.equal(above[clear], margin[clear] >= 0)
    assert clear.sum() > 0.9 * pairs
    if q > 2:
        assert (above & clear).sum() > 30  # the two orders do differ
        assert (~above & clear).sum() > 30
    else:
        assert not (above & clear).any()


def test_with_two_classes_the_gradient_orders_as_the_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(200, 2, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 2, (200,), generator=generator)
    losses, scores = F.cross_entropy(logits, target, reduction="none"), loss_layer_gradient_norm(logits, target)
    for rate in (0.1, 0.3, 0.5, 0.9):
        assert torch.equal(keep_mask(scores, rate), keep_mask(losses, rate))


def test_with_more_classes_it_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(200, 10, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 10, (200,), generator=generator)
    losses, scores = F.cross_entropy(logits, target, reduction="none"), loss_layer_gradient_norm(logits, target)
    assert not torch.equal(keep_mask(scores, 0.5), keep_mask(losses, 0.5))


@pytest.mark.parametrize("q", [1, 2, 10])
def test_in_regression_it_orders_as_the_squared_error(q: int) -> None:
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        output, target = torch.randn(2, 64, q, generator=generator, dtype=torch.float64)
        losses = F.mse_loss(output, target, reduction="none").mean(1)
        scores = loss_layer_gradient_norm(output, target, "mse")
        for rate in (0.1, 0.4, 0.75):
            assert torch.equal(keep_mask(scores, rate), keep_mask(losses, rate))


def phi(x: Tensor, _: Tensor) -> Tensor:
    return (0.5 * x[:, 0] ** 2 + 50 * x[:, 1] ** 2).mean()


class Shift(nn.Module):
    """Its gradient is that of the loss at the point."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.by


def test_a_larger_loss_may_have_the_smaller_gradient() -> None:
    points = torch.tensor([[1000.0, 1.0], [495.0, -49.5]], dtype=torch.float64, requires_grad=True)
    losses = torch.stack([phi(point[None], point) for point in points])
    (gradients,) = torch.autograd.grad(losses.sum(), points)
    torch.testing.assert_close(losses.detach(), torch.tensor([500050.0, 245025.0], dtype=torch.float64))
    norms = per_sample_gradient_norms(Shift(), phi, points.detach(), torch.zeros(2)).detach()
    torch.testing.assert_close(norms, gradients.norm(dim=1))
    assert keep_mask(losses.detach(), 0.5).tolist() == [False, True]
    assert keep_mask(norms, 0.5).tolist() == [True, False]


# --- theorem 3: the mean of what is kept stays close to the clean mean ---


def bound(C: float, k: float, eps: float) -> float:
    return 4 * C * k * (eps - eps**2) / (1 - eps)


def clean_instance(seed: int, q: int = 3, d: int = 12) -> tuple[Tensor, Tensor, float, float]:
    """Loss-layer gradients alpha (m, q), Jacobians W (m, q, d), and the bounds C and k that they attain."""
    generator = torch.Generator().manual_seed(seed)
    alpha = torch.randn(ROWS, q, generator=generator, dtype=torch.float64)
    alpha += 2 * torch.randn(q, generator=generator, dtype=torch.float64) * (seed % 2)
    W = torch.randn(ROWS, q, d, generator=generator, dtype=torch.float64)
    return alpha, W, float(torch.linalg.matrix_norm(W, 2).max()), float(alpha.norm(dim=1).max())


def corrupted(alpha: Tensor, W: Tensor, eps: float, scale: float, kind: str, seed: int) -> Tensor:
    """The adversary: other loss-layer gradients for a share of the rows, `scale` times the largest clean one."""
    generator = torch.Generator().manual_seed(seed + 1000)
    rows = torch.randperm(ROWS, generator=generator)[: round(eps * ROWS)]
    k = alpha.norm(dim=1).max()
    if kind == "random":
        wrong = torch.randn(len(rows), alpha.shape[1], generator=generator, dtype=torch.float64)
    else:  # against the clean mean, through each row's own Jacobian
        wrong = -(W[rows] @ gradients(alpha, W).mean(0))
    delta = alpha.clone()
    delta[rows] = scale * k * wrong / wrong.norm(dim=1, keepdim=True)
    return delta


def gradients(alpha: Tensor, W: Tensor) -> Tensor:
    return (alpha[:, None] @ W)[:, 0]


@shares
@scales
@pytest.mark.parametrize("kind", ["random", "opposed"])
def test_theorem_3(eps: float, scale: float, kind: str) -> None:
    for seed in range(6):
        alpha, W, C, k = clean_instance(seed)
        clean = gradients(alpha, W).mean(0)
        for factor in (scale, 0.999 * scale):  # just within the largest clean norm as well
            delta = corrupted(alpha, W, eps, factor, kind, seed)
            G = gradients(delta, W)
            kept = keep_mask(delta.norm(dim=1), eps)  # algorithm 3 sorts the loss layer
            assert kept.sum() == round((1 - eps) * ROWS)
            assert (G[kept].mean(0) - clean).norm() <= bound(C, k, eps)
            assert (robust_mean(G, eps) - clean).norm() <= bound(C, k, eps)  # algorithm 1: clean rows are within C k


@shares
def test_without_dropping_the_bound_fails(eps: float) -> None:
    for seed in range(6):
        alpha, W, C, k = clean_instance(seed)
        clean = gradients(alpha, W).mean(0)
        G = gradients(corrupted(alpha, W, eps, 1e6, "opposed", seed), W)
        assert (robust_mean(G, 0.0) - clean).norm() > 1e3 * bound(C, k, eps)


def test_to_drop_fewer_than_are_corrupted_is_not_enough() -> None:
    alpha, W, C, k = clean_instance(0)
    clean = gradients(alpha, W).mean(0)
    delta = corrupted(alpha, W, 0.25, 1e6, "opposed", 0)
    for eps, holds in ((0.225, False), (0.25, True), (0.3, True)):
        kept = keep_mask(delta.norm(dim=1), eps)
        error = (gradients(delta, W)[kept].mean(0) - clean).norm()
        assert (error <= bound(C, k, eps)) == holds


@shares
def test_the_worst_adversary_hides_among_the_clean(eps: float) -> None:
    """Equal clean rows, answered by slightly shorter opposite ones: the error is 2 eps / (1 - eps) <= 4 eps."""
    direction = torch.tensor([0.6, 0.8, 0.0], dtype=torch.float64)
    G = direction.repeat(ROWS, 1)
    G[: round(eps * ROWS)] *= -(1 - 1e-9)
    error = (robust_mean(G, eps) - direction).norm().item()
    assert error == pytest.approx(2 * eps / (1 - eps), rel=1e-6)
    assert error <= bound(1.0, 1.0, eps)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0, 1e6])
def test_theorem_3_for_a_network_with_wrong_targets(scale: float) -> None:
    """A linear model's Jacobian has the operator norm of its input; the adversary changes targets alone."""
    eps, generator = 0.25, torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 6, generator=generator, dtype=torch.float64)
    clean = torch.randn(ROWS, 2, generator=generator, dtype=torch.float64)
    net = nn.Linear(6, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        net.weight.copy_(torch.randn(2, 6, generator=generator, dtype=torch.float64))
    noisy = clean.clone()
    noisy[:10] += scale * torch.randn(10, 2, generator=generator, dtype=torch.float64)

    def gradient(target: Tensor, rows: Tensor) -> Tensor:
        loss = 0.5 * (net(x[rows]) - target[rows]).square().sum(1).mean()
        return torch.autograd.grad(loss, net.weight)[0]

    everything = torch.ones(ROWS, dtype=torch.bool)
    C, k = x.norm(dim=1).max().item(), loss_layer_gradient_norm(net(x), clean, "mse").max().item()
    kept = keep_mask(loss_layer_gradient_norm(net(x), noisy, "mse"), eps)
    true = gradient(clean, everything)
    assert (gradient(noisy, kept) - true).norm() <= bound(C, k, eps)
    if scale == 1e6:
        assert (gradient(noisy, everything) - true).norm() > 1e3 * bound(C, k, eps)
