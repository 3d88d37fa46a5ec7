"""Preference losses and their gradients beside a restatement of the published formulas in plain probabilities.

The formulas are those that TRL 1.16 computes too (DPOTrainer, KTOTrainer, and its experimental ORPO and CPO), in the
same conventions; what they give for the same log-probabilities is compared here in loops over single pairs.
"""

import math

import pytest
import torch

from heedlm.objectives import Dpo, Ipo, Kto, Orpo, Simpo
from heedlm.ops.types import PairLogps

PAIRS = 40


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def dpo(w, l, rw, rl, nw, nl, beta=0.1):  # noqa: E741
    """π_w^β ref_l^β ÷ (π_w^β ref_l^β + π_l^β ref_w^β), with everything but one factor taken out."""
    return -torch.log(1 / (1 + torch.exp(beta * ((l - rl) - (w - rw)))))


def conservative(*given, eps=0.2):
    w, l, rw, rl, nw, nl = given  # noqa: E741
    return (1 - eps) * dpo(*given) + eps * dpo(l, w, rl, rw, nl, nw)


def robust(*given, eps=0.2):
    w, l, rw, rl, nw, nl = given  # noqa: E741
    return ((1 - eps) * dpo(*given) - eps * dpo(l, w, rl, rw, nl, nw)) / (1 - 2 * eps)


def ipo_sum(w, l, rw, rl, nw, nl, tau=0.1):  # noqa: E741
    return ((w - rw) - (l - rl) - 0.5 / tau) ** 2


def ipo_mean(w, l, rw, rl, nw, nl, tau=0.1):  # noqa: E741
    return ((w - rw) / nw - (l - rl) / nl - 0.5 / tau) ** 2


def orpo(w, l, rw, rl, nw, nl, lam=0.1):  # noqa: E741
    p, q = torch.exp(w / nw), torch.exp(l / nl)
    ratio = (p / (1 - p)) / (q / (1 - q))
    return -w / nw - lam * torch.log(ratio / (1 + ratio))


def simpo(w, l, rw, rl, nw, nl, beta=2.0, gamma=1.0):  # noqa: E741
    return -torch.log(sigmoid(beta * w / nw - beta * l / nl - gamma))


@pytest.fixture(scope="module")
def numbers():
    """Log-probabilities of pairs as two models and lengths give them: −0.1 to −5 nats a token."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 60, (2, PAIRS), generator=draw)
    each = 0.1 + 4.9 * torch.rand(2, PAIRS, generator=draw, dtype=torch.float64)
    ref = -each * lengths
    return ref + torch.randn(2, PAIRS, generator=draw, dtype=torch.float64), ref, lengths


CASES = [
    (Dpo(), dpo),
    (Dpo(label_smoothing=0.2), conservative),
    (Dpo(label_smoothing=0.2, smoothing="robust"), robust),
    (Ipo(), ipo_sum),
    (Ipo(length_norm=True), ipo_mean),
    (Orpo(), orpo),
    (Simpo(), simpo),
]


@pytest.mark.parametrize(("objective", "formula"), CASES, ids=[formula.__name__ for _, formula in CASES])
def test_pair_losses(numbers, objective, formula):
    policy, ref, lengths = numbers
    ours, theirs = policy.clone().requires_grad_(), policy.clone().requires_grad_()
    loss = objective(PairLogps(*ours, *lengths), PairLogps(*ref, *lengths)).mean()
    rows = [
        formula(theirs[0, i], theirs[1, i], ref[0, i], ref[1, i], int(lengths[0, i]), int(lengths[1, i]))
        for i in range(PAIRS)
    ]
    wanted = torch.stack(rows).sum() / PAIRS
    torch.testing.assert_close(loss, wanted, rtol=1e-6, atol=0)
    one, two = torch.autograd.grad(loss, ours)[0], torch.autograd.grad(wanted, theirs)[0]
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("shift", [0.4, -0.4])
def test_kto(numbers, shift):
    """z₀ from answers to other prompts: above 0, and below it, where it counts as 0."""
    policy, ref, _ = numbers
    good = torch.arange(PAIRS) % 3 > 0
    mismatched = torch.linspace(-1, 1, PAIRS, dtype=torch.float64) + shift
    ours, theirs = policy[0].clone().requires_grad_(), policy[0].clone().requires_grad_()
    objective = Kto(beta=0.3, desirable=1.3, undesirable=0.9)
    loss = objective(ours, ref[0], good, mismatched.mean()).mean()
    z0 = max(0.0, math.fsum(mismatched.tolist()) / PAIRS)
    rows = [
        1.3 - 1.3 * sigmoid(0.3 * (theirs[i] - ref[0, i] - z0))
        if good[i]
        else 0.9 - 0.9 * sigmoid(0.3 * (z0 - theirs[i] + ref[0, i]))
        for i in range(PAIRS)
    ]
    wanted = torch.stack(rows).sum() / PAIRS
    torch.testing.assert_close(loss, wanted, rtol=1e-6, atol=0)
    one, two = torch.autograd.grad(loss, ours)[0], torch.autograd.grad(wanted, theirs)[0]
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-12)
