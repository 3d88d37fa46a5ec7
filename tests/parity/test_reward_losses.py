"""Reward-model losses and gradients against an independent implementation: probabilities and derivatives in numpy."""

import math

import numpy as np
import pytest
import torch

from heedlm.objectives import BradleyTerry, ranked_batch

RANKS = [[1, 2, 3, 4], [2, 1], [1, 1, 2], [3, 3, 3]]


def probabilities(d, ties, theta, nu):
    """P(win), P(tie) of a score difference, straight from the definitions."""
    a, b = math.exp(d / 2), math.exp(-d / 2)
    if ties == "rao_kupper":
        win, lose = a / (a + theta * b), b / (b + theta * a)
        return win, 1 - win - lose
    if ties == "davidson":
        whole = a + b + nu
        return a / whole, nu / whole
    return a / (a + b), None


def loss(scores, settings, margins, targets):
    """Mean over prompts of the mean over a prompt's pairs; `half` ties are half a win each way."""
    ties, theta, nu = settings.ties, settings.theta, settings.nu
    total, start = 0.0, 0
    for ranks, margin, target in zip(RANKS, margins, targets, strict=True):
        row = scores[start : start + len(ranks)]
        start += len(ranks)
        each = []
        for i in range(len(ranks)):
            for j in range(i + 1, len(ranks)):
                first, second = (i, j) if ranks[i] <= ranks[j] else (j, i)
                d = row[first] - row[second]
                centring = settings.center * (row[first] + row[second]) ** 2
                if ranks[i] == ranks[j]:
                    win, tie = probabilities(d, ties, theta, nu)
                    value = -0.5 * math.log(win * (1 - win)) if tie is None else -math.log(tie)
                else:
                    right = target * (1 - settings.label_smoothing) + (1 - target) * settings.label_smoothing
                    forth = probabilities(d - margin, ties, theta, nu)[0]
                    back = probabilities(margin - d, ties, theta, nu)[0]
                    value = -right * math.log(forth) - (1 - right) * math.log(back)
                each.append(value + centring)
        total += sum(each) / len(each)
    return total / len(RANKS)


@pytest.mark.parametrize("ties", ["half", "rao_kupper", "davidson"])
@pytest.mark.parametrize(("smoothing", "center"), [(0.0, 0.0), (0.1, 0.01)])
@pytest.mark.parametrize("soft", [False, True])
def test_losses_and_gradients(ties, smoothing, center, soft, near):
    settings = BradleyTerry(ties=ties, theta=1.7, nu=0.8, label_smoothing=smoothing, center=center)
    margins = [0.3, -0.4, 0.0, 0.0] if soft else [0.0] * 4
    targets = [0.9, 0.6, 1.0, 1.0] if soft else [1.0] * 4
    values = np.random.default_rng(3).normal(size=sum(map(len, RANKS)))
    scores = torch.tensor(values, requires_grad=True)
    batch = ranked_batch(RANKS, "cpu", margins if soft else None, targets if soft else None)
    found = settings(scores, batch).mean()
    near(found, loss(values, settings, margins, targets))
    (gradient,) = torch.autograd.grad(found, scores)
    step = 1e-5
    numeric = []
    for place in range(len(values)):
        nudge = np.zeros_like(values)
        nudge[place] = step
        up, down = (loss(values + sign * nudge, settings, margins, targets) for sign in (1, -1))
        numeric.append((up - down) / (2 * step))
    near(gradient, numeric, tol=1e-7)
