"""SFT: N2, the right denominator, and no gradient on prompt tokens."""

import math

import torch

from heedlm.objectives import Sft

LOGPS = [-0.5, -1.0, -0.25, -2.0, -0.1]


def test_n2(f64, near):
    # (.25 + 2 + .1) / 3
    loss = Sft()(f64(LOGPS), torch.tensor([[0, 0, 1, 1, 1]]).bool())
    near(loss.values, [2.35])
    near(loss.count, 3)
    near(loss.mean(), 0.783333)
    near(loss.metrics["nll"], 2.35 / 3)


def test_tokens_are_averaged_over_the_global_batch_not_over_rows(f64, near):
    mask = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 0, 0, 1]]).bool()
    both = Sft()(f64(LOGPS, LOGPS), mask)
    near(both.mean(), (2.35 + 0.1) / 4)
    parts = [Sft()(f64(LOGPS), mask[row : row + 1]) for row in (0, 1)]
    near(sum(part.values.sum() for part in parts) / sum(part.count for part in parts), both.mean(), tol=1e-12)


def test_gradient_is_zero_on_prompt_tokens_and_even_on_those_of_zero_probability(near):
    logps = torch.tensor([[-math.inf, -1.0, -2.0, math.nan]], requires_grad=True)
    loss = Sft()(logps, torch.tensor([[False, True, True, False]]))
    loss.mean().backward()
    assert logps.grad is not None
    near(logps.grad, [[0.0, -0.5, -0.5, 0.0]])


def test_nothing_to_learn_is_no_loss(f64, near):
    loss = Sft()(f64(LOGPS), torch.zeros(1, 5, dtype=torch.bool))
    near([loss.values.sum(), loss.count, loss.mean(), loss.metrics["nll"]], [0.0] * 4)
