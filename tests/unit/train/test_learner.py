"""One optimiser step: the rate's shape, the clip, what stops a step, and the best weights."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from heedlm.errors import NotFinite
from heedlm.ops.types import Loss
from heedlm.train.learner import Learner, Term
from heedlm.train.loop import Best
from heedlm.train.optim import Optim

shapes = st.builds(
    Optim,
    lr=st.floats(1e-6, 1.0),
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
    warmup=st.floats(0, 0.9),
    final=st.floats(0, 1),
)


@given(shapes, st.integers(1, 200))
def test_the_rate_rises_to_its_peak_and_never_rises_again(optim, total):
    rates = [optim.rate(step, total) for step in range(total + 5)]
    warm = math.ceil(optim.warmup * total)
    assert all(rate > 0 for rate in rates[:total])
    assert all(a < b for a, b in pairwise(rates[: warm + 1]))
    assert rates[warm] == pytest.approx(optim.lr)
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(rates[warm:]))
    end = optim.lr if optim.schedule == "constant" else optim.lr * optim.final
    assert rates[-1] == pytest.approx(end, abs=1e-15)


def test_rates_by_hand():
    linear = Optim(lr=0.1, schedule="linear", warmup=0.2, final=0.5)
    assert [linear.rate(step, 10) for step in (0, 1, 2, 6, 10)] == pytest.approx([0.1 / 3, 0.2 / 3, 0.1, 0.075, 0.05])
    cosine = Optim(lr=0.1, schedule="cosine", warmup=0.0, final=0.0)
    assert [cosine.rate(step, 8) for step in (0, 2, 4, 8)] == pytest.approx(
        [0.1, 0.05 * (1 + math.cos(math.pi / 4)), 0.05, 0.0], abs=1e-15
    )


def test_weight_decay_touches_matrices_only():
    model = nn.Linear(3, 2).requires_grad_(True)
    optimizer = Optim(weight_decay=0.3).build(model.parameters())
    decays = {len(group["params"][0].shape): group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {2: 0.3, 1: 0.0}
    frozen = nn.Linear(3, 2).requires_grad_(False)
    frozen.weight.requires_grad_(True)
    assert sum(len(group["params"]) for group in Optim().build(frozen.parameters()).param_groups) == 1


# ---------------------------------------------------------------- updates


class Line(nn.Module):
    """y = w·x, with as few weights as a model can have."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))

    def forward(self, x):
        return x @ self.w


def term(model, xs, count=None, **options):
    """The loss Σ y over some rows, whose gradient is the sum of the rows."""
    rows = torch.tensor(xs, dtype=torch.float64)

    def loss():
        values = model(rows)
        return Loss(values, torch.tensor(len(xs)), {"first": values[0].detach()})

    return Term(loss, len(xs) if count is None else count, **options)


def learner(**options):
    optim = Optim(**{"lr": 0.1, "schedule": "constant", "warmup": 0.0, "grad_clip": None, **options})
    model = Line()
    return Learner(model, optim, 10), model


def test_losses_and_metrics_are_means_over_the_whole_batch():
    taught, model = learner()
    values = taught.update(
        [
            term(model, [[1.0, 0.0], [3.0, 0.0]]),
            term(model, [[8.0, 0.0]]),
            term(model, [[0.0, 5.0]], group="mix", weight=0.5),
        ]
    )
    assert values["loss/train"] == pytest.approx((1 + 3 + 8) / 3)
    assert values["loss/mix"] == pytest.approx(-10)
    assert values["first"] == pytest.approx((1 * 2 + 8 * 1) / 3 - 10)
    assert values["grad_norm"] == pytest.approx(math.hypot(12 / 3, 0.5 * 5))
    assert values["lr"] == 0.1
    assert model.w.grad.tolist() == pytest.approx([4.0, 2.5])


def test_the_gradient_is_clipped_by_its_global_norm_and_the_norm_told_is_the_one_before():
    taught, model = learner(grad_clip=1.0)
    values = taught.update([term(model, [[3.0, 4.0]])])
    assert values["grad_norm"] == pytest.approx(5.0)
    assert model.w.grad.tolist() == pytest.approx([0.6, 0.8], rel=1e-5)
    values = taught.update([term(model, [[0.03, 0.04]])])
    assert values["grad_norm"] == pytest.approx(0.05)
    assert model.w.grad.tolist() == pytest.approx([0.03, 0.04])


def test_rate_and_scale_reach_the_optimiser():
    taught, model = learner(schedule="linear", final=0.0)
    rates = [taught.update([term(model, [[1.0, 0.0]])])["lr"] for _ in range(3)]
    assert rates == pytest.approx([0.1, 0.09, 0.08])
    taught.scale = 0.5
    before = model.w.detach().clone()
    assert taught.update([term(model, [[1.0, 0.0]])])["lr"] == pytest.approx(0.035)
    assert taught.optimizer.param_groups[0]["lr"] == pytest.approx(0.035)
    # Adam's step is the rate where all gradients were alike.
    assert float((before - model.w)[0].detach()) == pytest.approx(0.035, rel=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_stops_the_step_and_names_the_batch(bad):
    taught, model = learner()
    taught.update([term(model, [[1.0, 2.0]])])
    weights = model.w.detach().clone()
    moments = {key: value.clone() for key, value in taught.optimizer.state[model.w].items()}
    with pytest.raises(NotFinite, match=r"loss became (nan|-?inf) in step 2, rows of step 7"):
        taught.update([term(model, [[1.0, 0.0]], label="fine"), term(model, [[bad, 1.0]], label="rows of step 7")])
    assert torch.equal(model.w.detach(), weights)
    assert taught.step == 1
    for key, value in taught.optimizer.state[model.w].items():
        assert torch.equal(value, moments[key])


def test_an_infinite_gradient_of_a_finite_loss_stops_the_step():
    taught, model = learner(grad_clip=1.0)
    weights = model.w.detach().clone()

    def steep():
        values = (model.w[:1] - model.w[:1].detach()).abs().sqrt()  # 0, with slope ∞ · 0
        return Loss(values, torch.tensor(1))

    with pytest.raises(NotFinite, match=r"gradient norm became (nan|inf) in step 1, whole batch, steep one"):
        taught.update([term(model, [[1.0, 0.0]], label="whole batch"), Term(steep, 1, label="steep one")])
    assert torch.equal(model.w.detach(), weights)
    # The step after it is as if nothing had happened.
    fresh, other = learner(grad_clip=1.0)
    assert taught.update([term(model, [[1.0, 1.0]])]) == fresh.update([term(other, [[1.0, 1.0]])])
    assert torch.equal(model.w, other.w)


def test_an_empty_group_gives_zero_instead_of_nan():
    taught, model = learner()
    values = taught.update([term(model, [[0.0, 0.0]], count=0)])
    assert values["loss/train"] == 0
    assert torch.equal(model.w.detach(), torch.tensor([1.0, -2.0], dtype=torch.float64))


def test_a_learner_goes_on_from_its_state_bit_for_bit():
    one, model = learner(schedule="cosine")
    batches = [[[float(i), 1.0 + i * i]] for i in range(6)]
    for xs in batches[:3]:
        one.update([term(model, xs)])
    two, other = learner(schedule="cosine")
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for xs in batches[3:]:
        assert one.update([term(model, xs)]) == two.update([term(other, xs)])
    assert torch.equal(model.w, other.w)


# ---------------------------------------------------------------- best weights


def test_best_keeps_the_lowest_value_and_puts_its_weights_back():
    model = Line()
    best = Best(model)
    for value, weight in ((3.0, 1.0), (1.0, 2.0), (2.0, 3.0), (1.0, 4.0)):
        with torch.no_grad():
            model.w.fill_(weight)
        best.offer(value, step=int(weight))
    assert (best.value, best.step) == (1.0, 2)
    with torch.no_grad():
        model.w.fill_(9.0)
    again = Best(model)
    again.load_state_dict(best.state_dict())
    for kept in (best, again):
        with torch.no_grad():
            model.w.fill_(9.0)
        kept.restore()
        assert model.w.tolist() == [2.0, 2.0]
    with torch.no_grad():
        model.w.add_(1.0)  # training on must not change what was kept
    best.restore()
    assert model.w.tolist() == [2.0, 2.0]


def test_best_without_an_offer_changes_nothing_and_nan_is_never_best():
    model = Line()
    best = Best(model)
    best.offer(math.nan, 1)
    best.restore()
    assert model.w.tolist() == [1.0, -2.0]
    other = Best(model)
    other.load_state_dict(best.state_dict())
    assert other.value == math.inf
    assert other.weights == {}
