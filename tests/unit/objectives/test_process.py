"""The loss of a process reward model: what each step is to learn, and the loss by hand."""

import math

import pytest
import torch

from heedlm.objectives import Process


def log_sigmoid(x):
    return -math.log1p(math.exp(-x))


def rows(*values, fill=9.0):
    width = max(map(len, values))
    mask = torch.tensor([[place < len(row) for place in range(width)] for row in values])
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in values], dtype=torch.float64), mask


def test_the_loss_is_the_cross_entropy_of_each_step(near):
    scores, mask = rows([2.0, -1.0], [0.5])
    targets, _ = rows([1.0, 0.0], [0.3])
    loss = Process()(scores, targets, mask)
    near(loss.values, [-log_sigmoid(2) - log_sigmoid(1), -0.3 * log_sigmoid(0.5) - 0.7 * log_sigmoid(-0.5)])
    near(loss.count, 3)
    near(loss.metrics["accuracy"], 2 / 3)  # the third is thought right and is not


def test_the_gradient_is_that_of_the_closed_form(near):
    scores, mask = rows([2.0, -1.0, 0.3])
    targets, _ = rows([1.0, 0.0, 0.25])
    scores.requires_grad_()
    Process()(scores, targets, mask).mean().backward()
    near(scores.grad, (scores.detach().sigmoid() - targets) / 3)


@pytest.mark.parametrize(
    ("settings", "labels", "wanted"),
    [
        ({}, [1, 0, 1], [1, 1, 1]),
        ({"neutral": "wrong"}, [1, 0, 1], [1, 0]),
        ({}, [1, -1, 1, -1], [1, 0]),
        ({"to_first_error": False}, [1, -1, 1, -1], [1, 0, 1, 0]),
        ({"to_first_error": False, "neutral": "wrong"}, [0, 1], [0, 1]),
        ({}, [-1], [0]),
    ],
)
def test_targets_end_with_the_first_error(settings, labels, wanted):
    assert Process(**settings).targets(labels) == wanted


def test_chances_are_learned_only_if_asked_for():
    labels, chances = [1, 1, -1, 1], [0.75, 0.5, 0.0, 0.25]
    assert Process().targets(labels, chances) == [1, 1, 0]
    assert Process(soft=True).targets(labels, chances) == [0.75, 0.5, 0.0]
    assert Process(soft=True).targets(labels) == [1, 1, 0]
