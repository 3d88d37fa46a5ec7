"""KL estimates and the adaptive coefficient: N10, unbiasedness by enumeration, gradients, extremes."""

import math

import pytest
import torch

from heedlm.errors import NotFinite
from heedlm.ops.kl import AdaptiveKl, k1, k2, k3


def test_n10_means(f64, near):
    # log π − log π_ref = [.2, −.1, −.5, .3].
    logps, ref = f64(-1.0, -0.5, -2.0, -0.3), f64(-1.2, -0.4, -1.5, -0.6)
    near(k1(logps, ref).mean(), (0.2 - 0.1 - 0.5 + 0.3) / 4)
    near(k1(logps, ref).mean(), -0.025)
    near(k2(logps, ref).mean(), (0.04 + 0.01 + 0.25 + 0.09) / 8)
    near(k2(logps, ref).mean(), 0.048750)
    near(k3(logps, ref).mean(), sum(math.exp(-k) - 1 + k for k in (0.2, -0.1, -0.5, 0.3)) / 4)
    near(k3(logps, ref).mean(), 0.053360, tol=1e-6)


def test_k1_and_k3_are_unbiased_and_k2s_gradient_is_kls(near):
    """Expectations over the whole vocabulary, not over samples."""
    torch.manual_seed(0)
    ref = torch.randn(6, dtype=torch.float64).log_softmax(-1)
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    logps = logits.log_softmax(-1)
    probs = logps.exp().detach()
    kl = (logps.exp() * (logps - ref)).sum()
    near((probs * k1(logps, ref)).sum(), kl)
    near((probs * k3(logps, ref)).sum(), kl)
    (wanted,) = torch.autograd.grad(kl, logits, retain_graph=True)
    (of_k1,) = torch.autograd.grad((probs * k1(logps, ref)).sum(), logits, retain_graph=True)
    (of_k2,) = torch.autograd.grad((probs * k2(logps, ref)).sum(), logits, retain_graph=True)
    (of_k3,) = torch.autograd.grad((probs * k3(logps, ref)).sum(), logits)
    near(of_k2, wanted)
    near(of_k1, torch.zeros(6))
    assert (of_k3 - wanted).abs().max() > 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gap", [0.0, 1.0, 30.0, 1000.0, 1e4])
def test_k3_is_finite_and_not_negative_at_extremes(dtype, gap):
    for sign in (1, -1):
        logps = torch.tensor([sign * gap], dtype=dtype, requires_grad=True)
        found = k3(logps, torch.zeros(1, dtype=dtype))
        found.sum().backward()
        assert found.isfinite().all()
        assert (found >= 0).all()
        assert logps.grad is not None
        assert logps.grad.isfinite().all()


def test_k3_keeps_small_numbers():
    """1 − k + k²/2 loses all digits in float32 if it is not written with expm1."""
    k = torch.tensor([1e-3], dtype=torch.float32)
    assert float(k3(k, torch.zeros(1))) == pytest.approx(0.5e-6, rel=1e-3)


def test_n10_adaptive():
    # KL/target − 1 = .25, clipped to .2: β·(1 + .2·512/10000) = .2·1.01024.
    controller = AdaptiveKl(beta=0.2, target=6)
    assert controller.update(7.5, 512) == pytest.approx(0.2 * 1.01024, abs=1e-12)
    assert controller.beta == pytest.approx(0.202048, abs=1e-6)


def test_adaptive_moves_towards_the_target():
    controller = AdaptiveKl(beta=0.2, target=6)
    assert controller.update(6.0, 512) == 0.2
    assert controller.update(5.7, 1000) == pytest.approx(0.2 * (1 - 0.05 * 0.1))  # within ±.2: proportional
    assert AdaptiveKl(0.2, 6).update(0.0, 512) == pytest.approx(0.2 * (1 - 0.2 * 0.0512))
    assert AdaptiveKl(0.2, 6).update(-1.0, 512) == pytest.approx(0.2 * (1 - 0.2 * 0.0512))


def test_adaptive_goes_on_from_its_state():
    first, second = AdaptiveKl(0.2, 6), AdaptiveKl(1.0)
    first.update(9.0, 64)
    second.load_state_dict(first.state_dict())
    assert second == first
    assert second.update(3.0, 64) == first.update(3.0, 64)


@pytest.mark.parametrize("kl", [math.nan, math.inf])
def test_adaptive_refuses_a_broken_kl(kl):
    controller = AdaptiveKl(0.2, 6)
    with pytest.raises(NotFinite):
        controller.update(kl, 64)
    assert controller.beta == 0.2


@pytest.mark.parametrize("wrong", [{"beta": 0.0}, {"beta": 0.1, "target": 0.0}, {"beta": 0.1, "horizon": -1.0}])
def test_adaptive_refuses_numbers_without_meaning(wrong):
    with pytest.raises(ValueError, match="must be positive"):
        AdaptiveKl(**wrong)
