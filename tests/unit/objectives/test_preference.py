"""Losses over preferred and rejected answers: worked numbers, named conventions, what is logged, extremes."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from heedlm.objectives import Dpo, Ipo, Kto, Orpo, Simpo
from heedlm.ops.pairs import log_odds, of_their_own, per_token
from heedlm.ops.types import PairLogps

CLOSE = {"abs": 1e-6}
LENGTHS = torch.tensor([10]), torch.tensor([12])


def wide(*numbers) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def pair(chosen, rejected) -> PairLogps:
    return PairLogps(wide(chosen), wide(rejected), *LENGTHS)


POLICY, REFERENCE = pair(-12, -15), pair(-13, -14.5)


# ---------------------------------------------------------------- N12


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Dpo(), 0.620957),
        (Dpo(label_smoothing=0.1), 0.635957),
        (Dpo(label_smoothing=0.1, smoothing="robust"), 0.602207),
        (Ipo(), 12.25),
        (Ipo(length_norm=True), 23.603403),
        (Orpo(), 1.265837),
        (Simpo(), 1.241154),
    ],
    ids=lambda value: value.model_dump_json(exclude_defaults=True) if hasattr(value, "name") else str(value),
)
def test_n12_pairs(objective, expected):
    loss = objective(POLICY, REFERENCE)
    assert loss.values.tolist() == pytest.approx([expected], **CLOSE)
    assert int(loss.count) == 1


def test_n12_kto():
    """Good and bad answers of Δ 1 and −½, with z₀ from three mismatched ones."""
    z0 = wide(0.3, -0.1, 0.2).mean()
    assert float(z0) == pytest.approx(0.133333, **CLOSE)
    loss = Kto()(wide(-12, -15), wide(-13, -14.5), torch.tensor([True, False]), z0)
    assert loss.values.tolist() == pytest.approx([0.478347, 0.484172], **CLOSE)
    assert int(loss.count) == 2


def test_n12_odds():
    odds = log_odds(wide(-1.2, -1.25))
    assert float(odds[0] - odds[1]) == pytest.approx(0.070803, **CLOSE)
    assert math.log1p(math.exp(-float(odds[0] - odds[1]))) == pytest.approx(0.658372, **CLOSE)


# ---------------------------------------------------------------- at the start


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [0.0, 0.2])
def test_dpo_starts_at_log_2_exactly(dtype, eps):
    logps = PairLogps(*(torch.randn(50, generator=torch.Generator().manual_seed(i)).to(dtype) * 100 for i in (0, 1)),
                      torch.full((50,), 9), torch.full((50,), 7))  # fmt: skip
    loss = Dpo(label_smoothing=eps)(logps, logps)
    expected = torch.tensor(math.log(2), dtype=dtype)
    if eps == 0:
        assert loss.values.eq(expected).all()
    else:
        torch.testing.assert_close(loss.values, expected.expand(50))
    assert loss.metrics["reward/margin"] == 0
    assert loss.metrics["accuracy"] == 0.5


def test_kto_starts_at_half_its_weights():
    same = wide(-3, -4)
    loss = Kto(desirable=1.2, undesirable=0.7)(same, same, torch.tensor([True, False]), wide(0).sum())
    assert loss.values.tolist() == [0.6, 0.35]


# ---------------------------------------------------------------- conventions


def test_robust_smoothing_expects_the_clean_loss():
    """Over labels that are wrong with probability ε its mean is DPO's loss on the right ones."""
    eps, robust = 0.3, Dpo(label_smoothing=0.3, smoothing="robust")
    right = robust(POLICY, REFERENCE).values
    swapped = (PairLogps(p.rejected, p.chosen, p.rejected_lengths, p.chosen_lengths) for p in (POLICY, REFERENCE))
    wrong = robust(*swapped).values
    torch.testing.assert_close((1 - eps) * right + eps * wrong, Dpo()(POLICY, REFERENCE).values)


def test_conservative_smoothing_has_its_minimum_where_the_probability_is_that_of_a_right_label():
    def slope(margin):
        chosen = wide(margin / 0.1).requires_grad_()
        zero = pair(0, 0)
        loss = Dpo(label_smoothing=0.2)(PairLogps(chosen, wide(0), *LENGTHS), zero)
        return float(torch.autograd.grad(loss.mean(), chosen)[0])

    best = math.log(0.8 / 0.2)
    assert slope(best) == pytest.approx(0, abs=1e-12)
    assert slope(best - 0.1) < 0 < slope(best + 0.1)


def test_z0_is_never_negative_and_has_no_gradient():
    kl = wide(-2.0).sum().requires_grad_()
    good = torch.tensor([True, False])
    below, at = (Kto()(wide(-12, -15).requires_grad_(), wide(-13, -14.5), good, z) for z in (kl, wide(0).sum()))
    assert torch.equal(below.values, at.values)
    assert torch.autograd.grad(below.mean(), kl, allow_unused=True)[0] is None


def test_kto_weighs_kinds():
    good = torch.tensor([True, False])
    plain, weighed = (k(wide(-2, -2), wide(-3, -3), good, wide(0).sum()) for k in (Kto(), Kto(desirable=1.5)))
    assert (weighed.values / plain.values).tolist() == pytest.approx([1.5, 1])


def test_what_needs_no_reference_does_not_look_at_one():
    nothing = PairLogps(wide(math.nan), wide(math.nan), *LENGTHS)
    for objective in (Orpo(), Simpo()):
        assert not objective.needs_reference
        assert torch.equal(objective(POLICY, nothing).values, objective(POLICY, REFERENCE).values)
    assert all(objective.needs_reference for objective in (Dpo(), Ipo(), Kto()))


def test_a_share_of_wrong_labels_of_one_half_teaches_nothing():
    with pytest.raises(ValidationError, match="label_smoothing"):
        Dpo(label_smoothing=0.5)


# ---------------------------------------------------------------- what is logged


@pytest.mark.parametrize(
    ("objective", "chosen", "rejected"),
    [
        (Dpo(), 0.1, -0.05),
        (Ipo(), 0.1, -0.05),
        (Ipo(length_norm=True), 0.01, -0.05 / 12),
        (Orpo(), -0.12, -0.125),
        (Simpo(), -2.4, -2.5),
    ],
)
def test_rewards_and_log_probs_of_pairs(objective, chosen, rejected):
    metrics = {name: float(value) for name, value in objective(POLICY, REFERENCE).metrics.items()}
    assert metrics == pytest.approx(
        {"reward/chosen": chosen, "reward/rejected": rejected, "reward/margin": chosen - rejected}
        | {"accuracy": 1.0, "logps/chosen": -12.0, "logps/rejected": -15.0}
    )
    given = objective.reward(POLICY.chosen, REFERENCE.chosen, POLICY.chosen_lengths)
    assert given.tolist() == pytest.approx([chosen])


def test_metrics_of_single_answers_become_means_of_their_own():
    """Two good answers and one bad one, in two parts: what is summed up is what it would be in one."""
    logps, ref, good = wide(-12, -10, -15), wide(-13, -10, -14.5), torch.tensor([True, True, False])
    whole = Kto()(logps, ref, good, wide(0.2).sum())
    parts = [Kto()(logps[s], ref[s], good[s], wide(0.2).sum()) for s in (slice(0, 1), slice(1, 3))]
    summed = {n: sum(float(p.metrics[n]) * int(p.count) for p in parts) / 3 for n in whole.metrics}
    found = of_their_own(summed)
    assert found == pytest.approx(
        {"desirable": 2 / 3, "reward/chosen": 0.05, "reward/rejected": -0.05, "reward/margin": 0.1}
        | {"accuracy": 2 / 3, "logps/chosen": -11.0, "logps/rejected": -15.0}
    )
    alone = of_their_own({n: float(v) for n, v in parts[0].metrics.items()})
    assert alone.keys() == {"desirable", "reward/chosen", "accuracy", "logps/chosen"}


def test_equal_rewards_are_half_right():
    both = PairLogps(wide(-1, -1), wide(-1, -2), torch.tensor([1, 1]), torch.tensor([1, 1]))
    zero = PairLogps(wide(0, 0), wide(0, 0), torch.tensor([1, 1]), torch.tensor([1, 1]))
    assert float(Dpo()(both, zero).metrics["accuracy"]) == 0.75


# ---------------------------------------------------------------- numbers


def test_odds_of_what_is_certain_are_bounded():
    mean = torch.tensor([0.0, -1e-12, -1e-6, -1e-3, -700.0], dtype=torch.float64, requires_grad=True)
    odds = log_odds(mean)
    assert torch.autograd.grad(odds.sum(), mean)[0].isfinite().all()
    odds = odds.detach()
    assert odds.isfinite().all()
    assert odds[:3].tolist() == pytest.approx([-math.log(1e-6)] * 3, abs=1e-5)
    assert float(odds[3]) == pytest.approx(-1e-3 - math.log(-math.expm1(-1e-3)))
    assert float(odds[4]) == -700


def test_half_precision_is_widened():
    low = PairLogps(*(x.bfloat16() for x in (POLICY.chosen, POLICY.rejected)), *LENGTHS)
    for objective in (Dpo(), Ipo(), Orpo(), Simpo()):
        assert objective(low, low).values.dtype == torch.float32
    assert per_token(low.chosen, LENGTHS[0]).dtype == torch.float32


def test_margins_far_away_neither_overflow_nor_lose_their_gradient():
    far = wide(-1e6).requires_grad_()
    loss = Dpo()(PairLogps(far, wide(0), *LENGTHS), pair(0, 0))
    assert loss.values.tolist() == pytest.approx([1e5])
    assert float(torch.autograd.grad(loss.mean(), far)[0]) == pytest.approx(-0.1)
