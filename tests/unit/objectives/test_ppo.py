"""PPO's losses: N9, the first pass, what clipping does to the gradient, and broken padding."""

import math

import pytest
import torch

from heedlm.objectives import Ppo

OLD = [-1.0, -0.5, -2.0, -0.3]
NEW = [-0.9, -0.8, -1.7, -0.35]
WHITE = [0.380685, -0.175905, 1.276590, -1.481369]  # N8, λ = .95
ALL = torch.ones(1, 4, dtype=torch.bool)


def test_n9_policy(f64, near):
    loss = Ppo().policy(f64(NEW), f64(OLD), f64(WHITE), ALL)
    ratios = [math.exp(n - o) for n, o in zip(NEW, OLD, strict=True)]
    near(ratios, [1.105171, 0.740818, 1.349859, 0.951229])
    terms = [max(-a * r, -a * min(max(r, 0.8), 1.2)) for a, r in zip(WHITE, ratios, strict=True)]
    near(loss.mean(), sum(terms) / 4, tol=1e-12)
    near(loss.mean(), -0.100696)
    near(loss.metrics["clip_fraction"], 0.5)  # the second (A < 0, ρ < .8) and the third (A > 0, ρ > 1.2)
    near(loss.metrics["approx_kl"], sum(r - 1 - math.log(r) for r in ratios) / 4, tol=1e-12)
    near(loss.metrics["approx_kl"], 0.024269)
    near(loss.metrics["ratio"], sum(ratios) / 4)


def test_n9_value(f64, near):
    values, old = f64([0.5, 0.45, 0.5, 0.7]), f64([0.2, 0.4, 0.1, 0.8])
    returns = f64([1.351364, 1.411963, 1.475750, 1.485])
    # The clip holds .5 at .4 and .5 at .3, both further from their returns.
    terms = [max((0.5 - 1.351364) ** 2, (0.4 - 1.351364) ** 2), (0.45 - 1.411963) ** 2,
             max((0.5 - 1.475750) ** 2, (0.3 - 1.475750) ** 2), (0.7 - 1.485) ** 2]  # fmt: skip
    clipped = Ppo().value(values, old, returns, ALL)
    near(clipped.mean(), 0.5 * sum(terms) / 4)
    near(clipped.mean(), 0.478635)
    near(clipped.metrics["value_clip_fraction"], 0.5)
    free = Ppo(value_clip=None).value(values, old, returns, ALL)
    near(free.mean(), 0.402313)
    near(free.metrics["value_clip_fraction"], 0.0)
    near([free.metrics["value_error"], clipped.metrics["value_error"]], [2 * 0.402313] * 2, tol=3e-6)
    near(free.metrics["value_mean"], (0.5 + 0.45 + 0.5 + 0.7) / 4)
    near(free.metrics["return_mean"], float(returns.mean()))


def test_the_first_minibatch_of_the_first_pass(f64):
    logps = f64(OLD).requires_grad_()
    loss = Ppo().policy(logps, f64(OLD), f64(WHITE), ALL)
    assert loss.metrics["ratio"] == 1
    assert loss.metrics["approx_kl"] == 0
    assert loss.metrics["clip_fraction"] == 0


def test_at_ratio_one_the_gradient_is_the_policy_gradient(f64, near):
    logps = f64(OLD).requires_grad_()
    Ppo().policy(logps, f64(OLD), f64(WHITE), ALL).values.sum().backward()
    near(logps.grad, [[-a for a in WHITE]])


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "moves"),
    [(0.3, 1.0, False), (0.3, -1.0, True), (-0.3, 1.0, True), (-0.3, -1.0, False), (0.1, 1.0, True)],
)
def test_the_clip_only_stops_what_would_go_further(log_ratio, advantage, moves, f64):
    logps = f64([log_ratio]).requires_grad_()
    loss = Ppo().policy(logps, f64([0.0]), f64([advantage]), torch.tensor([[True]]))
    loss.values.sum().backward()
    assert logps.grad is not None
    assert bool(logps.grad.abs().sum() > 0) == moves
    assert loss.metrics["clip_fraction"] == (0 if moves else 1)


def test_nothing_outside_the_mask_matters_be_it_nan(f64, near):
    mask = torch.tensor([[False, True, True, True, True, False]])
    junk = math.nan

    def padded(row):
        return f64([junk, *row, -math.inf])

    logps = padded(NEW).requires_grad_()
    loss = Ppo().policy(logps, padded(OLD), padded(WHITE), mask)
    loss.mean().backward()
    near(loss.mean(), -0.100696)
    assert logps.grad is not None
    assert logps.grad.isfinite().all()
    assert logps.grad[~mask].eq(0).all()
    values = padded([0.5, 0.45, 0.5, 0.7]).requires_grad_()
    value_loss = Ppo().value(values, padded([0.2, 0.4, 0.1, 0.8]), padded([1.351364, 1.411963, 1.475750, 1.485]), mask)
    value_loss.mean().backward()
    near(value_loss.mean(), 0.478635)
    assert values.grad is not None
    assert values.grad.isfinite().all()
    assert all(metric.isfinite() for metric in (loss.metrics | value_loss.metrics).values())


@pytest.mark.parametrize("gap", [50.0, -50.0, 1e4, -1e4])
@pytest.mark.parametrize("advantage", [3.0, -3.0])
def test_a_policy_far_away_gives_large_numbers_not_infinite_ones(gap, advantage):
    logps = torch.tensor([[gap]], requires_grad=True)
    loss = Ppo().policy(logps, torch.zeros(1, 1), torch.tensor([[advantage]]), torch.tensor([[True]]))
    loss.values.sum().backward()
    assert loss.values.isfinite().all()
    assert logps.grad is not None
    assert logps.grad.isfinite().all()
    assert all(metric.isfinite() for metric in loss.metrics.values())


def test_an_empty_mask_is_no_loss(f64, near):
    none = torch.zeros(1, 4, dtype=torch.bool)
    for loss in (
        Ppo().policy(f64(NEW), f64(OLD), f64(WHITE), none),
        Ppo().value(f64(NEW), f64(OLD), f64(WHITE), none),
    ):
        near(
            [loss.values.sum(), loss.count, loss.mean(), *loss.metrics.values()],
            [0.0] * (3 + len(loss.metrics)),
        )


def test_rows_in_two_microbatches_equal_one_batch(near):
    torch.manual_seed(0)
    logps, old, advantages = torch.randn(3, 4, 6, dtype=torch.float64)
    mask = torch.rand(4, 6) < 0.6
    for method in (Ppo().policy, Ppo().value):
        whole = method(logps, old, advantages, mask)
        halves = [method(logps[s], old[s], advantages[s], mask[s]) for s in (slice(0, 1), slice(1, 4))]
        count = sum(half.count for half in halves)
        near(sum(half.values.sum() for half in halves) / count, whole.mean(), tol=1e-12)
        for name, metric in whole.metrics.items():
            near(sum(half.metrics[name] * half.count for half in halves) / count, metric, tol=1e-12)


# ---------------------------------------------------------------- switches


def test_without_a_clip_the_loss_is_the_plain_surrogate(f64, near):
    logps, old, advantages = f64([-0.1, -3.0]), f64([-1.0, -0.5]), f64([2.0, -1.0])
    mask = torch.ones(1, 2, dtype=torch.bool)
    loss = Ppo(clip=None).policy(logps, old, advantages, mask)
    near(loss.values, [-2.0 * math.exp(0.9) + math.exp(-2.5)])
    assert float(loss.metrics["clip_fraction"]) == 0.0
    assert float(Ppo(clip=0.2).policy(logps, old, advantages, mask).values) > float(loss.values)


def test_the_entropy_bonus_is_clipped_token_by_token_and_leaves_padding_out(f64, near):
    zero = f64([0.0, 0.0, 0.0])
    mask, spread = torch.tensor([[True, True, False]]), f64([0.5, 3.0, 99.0])
    near(Ppo(entropy=0.1).policy(zero, zero, zero, mask, spread).values, [-0.35])
    near(Ppo(entropy=0.1, entropy_clip=2.0).policy(zero, zero, zero, mask, spread).values, [-0.25])
    with pytest.raises(ValueError, match="needs the entropy of each token"):
        Ppo(entropy=0.1).policy(zero, zero, zero, mask)


def test_the_bonus_raises_entropy_and_beyond_its_clip_does_not(f64):
    zero, mask = f64([0.0, 0.0]), torch.ones(1, 2, dtype=torch.bool)
    spread = f64([0.5, 3.0]).requires_grad_()
    Ppo(entropy=0.1, entropy_clip=2.0).policy(zero, zero, zero, mask, spread).values.sum().backward()
    assert spread.grad.tolist() == [[-0.1, 0.0]]
