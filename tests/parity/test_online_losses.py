"""Losses without a critic, and their gradients, beside loops over the papers' formulas in plain probabilities.

They are what TRL 1.16's GRPOTrainer (loss types grpo, dr_grpo, bnpo) and RLOOTrainer compute in the same conventions.
"""

import pytest
import torch

from heedlm.objectives import Dapo, DrGrpo, Grpo, ReinforcePp, Rloo

PROMPTS, ANSWERS, WIDTH = 5, 4, 9
ROOM = 12
BETA = 0.07


@pytest.fixture(scope="module")
def numbers():
    """Log-probabilities under new policy, old policy and reference, scores and lengths, of 20 answers."""
    draw = torch.Generator().manual_seed(3)
    rows = PROMPTS * ANSWERS
    old = -3 * torch.rand(rows, WIDTH, generator=draw, dtype=torch.float64)
    new = old + 0.3 * torch.randn(rows, WIDTH, generator=draw, dtype=torch.float64)
    ref = old + 0.3 * torch.randn(rows, WIDTH, generator=draw, dtype=torch.float64)
    scores = torch.randn(rows, generator=draw, dtype=torch.float64)
    lengths = torch.randint(1, WIDTH + 1, (rows,), generator=draw)
    return new, old, ref, scores, lengths.tolist()


def number(x):
    return float(torch.as_tensor(x).detach())


def group_of(row):
    first = row // ANSWERS * ANSWERS
    return range(first, first + ANSWERS)


def grpo_advantage(scores, row, scaled=True):
    group = [float(scores[i]) for i in group_of(row)]
    mean = sum(group) / ANSWERS
    spread = (sum((x - mean) ** 2 for x in group) / (ANSWERS - 1)) ** 0.5
    return (float(scores[row]) - mean) / (spread + 1e-4 if scaled else 1)


def token_loss(p_new, p_old, p_ref, advantage, low, high, beta):
    ratio = p_new / p_old
    bounded = min(max(number(ratio), 1 - low), 1 + high)
    gained = ratio * advantage
    gained = gained if number(gained) <= bounded * advantage else torch.tensor(bounded * advantage)
    return -gained + beta * (p_ref / p_new - torch.log(p_ref / p_new) - 1)


def grpo(p_new, p_old, p_ref, scores, lengths):
    total = 0.0
    for row, length in enumerate(lengths):
        a = grpo_advantage(scores, row)
        each = [token_loss(p_new[row, t], p_old[row, t], p_ref[row, t], a, 0.2, 0.2, BETA) for t in range(length)]
        total = total + sum(each) / length
    return total / len(lengths)


def dr_grpo(p_new, p_old, p_ref, scores, lengths):
    total = 0.0
    for row, length in enumerate(lengths):
        a = grpo_advantage(scores, row, scaled=False)
        each = [token_loss(p_new[row, t], p_old[row, t], p_ref[row, t], a, 0.2, 0.2, BETA) for t in range(length)]
        total = total + sum(each) / ROOM
    return total / len(lengths)


def dapo(p_new, p_old, p_ref, scores, lengths):
    total = 0.0
    for row, length in enumerate(lengths):
        a = grpo_advantage(scores, row)
        total = total + sum(
            token_loss(p_new[row, t], p_old[row, t], p_ref[row, t], a, 0.2, 0.28, BETA) for t in range(length)
        )
    return total / sum(lengths)


def whole(probabilities, row, length):
    found = 1.0
    for t in range(length):
        found = found * probabilities[row, t]
    return found


def rloo(p_new, p_old, p_ref, scores, lengths):
    worth = [
        float(scores[row]) - BETA * float(torch.log(whole(p_old, row, n) / whole(p_ref, row, n)))
        for row, n in enumerate(lengths)
    ]
    total = 0.0
    for row, length in enumerate(lengths):
        a = worth[row] - sum(worth[i] for i in group_of(row) if i != row) / (ANSWERS - 1)
        ratio = whole(p_new, row, length) / whole(p_old, row, length)
        bounded = min(max(number(ratio), 0.8), 1.2)
        total = total - (ratio * a if number(ratio) * a <= bounded * a else torch.tensor(bounded * a))
    return total / len(lengths)


def reinforce_pp(p_new, p_old, p_ref, scores, lengths):
    earned = {}
    for row, length in enumerate(lengths):
        for t in range(length):
            kl = sum(float(torch.log(p_old[row, i] / p_ref[row, i])) for i in range(t, length))
            earned[row, t] = float(scores[row]) - BETA * kl
    mean = sum(earned.values()) / len(earned)
    spread = (sum((x - mean) ** 2 for x in earned.values()) / len(earned)) ** 0.5
    each = [
        token_loss(p_new[at], p_old[at], p_ref[at], (value - mean) / spread, 0.2, 0.2, 0.0)
        for at, value in earned.items()
    ]
    return sum(each) / len(each)


@pytest.mark.parametrize(
    ("objective", "formula"),
    [
        (Grpo(), grpo),
        (DrGrpo(), dr_grpo),
        (Dapo(), dapo),
        (Rloo(), rloo),
        (ReinforcePp(), reinforce_pp),
    ],
    ids=["grpo", "dr_grpo", "dapo", "rloo", "reinforce_pp"],
)
def test_losses_and_gradients(numbers, objective, formula):
    new, old, ref, scores, lengths = numbers
    mask = torch.arange(WIDTH)[None, :] < torch.tensor(lengths)[:, None]
    rewards = torch.zeros_like(old)
    rewards[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = scores
    if objective.kl == "reward":
        rewards = rewards - BETA * (old - ref) * mask
    group = 1 if formula is reinforce_pp else ANSWERS
    ours, theirs = new.clone().requires_grad_(), new.clone().requires_grad_()
    advantages = objective.advantages(rewards, mask, group)
    loss = objective.policy(ours, old, advantages, mask, ref=ref, beta=BETA, room=ROOM).mean()
    wanted = formula(theirs.exp(), old.exp(), ref.exp(), scores, lengths)
    torch.testing.assert_close(loss, wanted, rtol=1e-6, atol=0)
    assert 0 < float(objective.policy(ours, old, advantages, mask).metrics["clip_fraction"]) < 1
    mine, other = torch.autograd.grad(loss, ours)[0], torch.autograd.grad(wanted, theirs)[0]
    torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-15)
