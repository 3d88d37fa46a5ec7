"""Losses and gradients beside the numbers that TRL 1.16 itself gave for the same tensors (see `trl_numbers.py`)."""

import json

import pytest
import torch
from tests.parity.trl_numbers import ANSWERS, BETA, FILE, GROUPS, PAIRS, ROOM, WIDTH, masked, numbers

from heedlm.objectives import BradleyTerry, Dapo, Dpo, DrGrpo, Grpo, Ipo, Kto, Rloo, ranked_batch
from heedlm.ops.types import PairLogps

KEPT = json.loads(FILE.read_text(encoding="utf-8"))
GIVEN = KEPT["given"]


def same(loss, leaf, name):
    """Loss and gradient, relative to their size, within 1e-6."""
    wanted = KEPT["found"][name]
    assert float(loss.detach()) == pytest.approx(wanted["loss"], rel=1e-6)
    gradient, other = torch.autograd.grad(loss, leaf)[0], torch.tensor(wanted["gradient"], dtype=torch.float64)
    assert float((gradient - other).norm()) <= 1e-6 * float(other.norm())
    assert float(other.norm()) > 0


def test_the_numbers_are_of_the_release_that_is_compared_with_and_all_there():
    assert KEPT["trl"].startswith("1.16.")
    assert set(KEPT["found"]) == {
        "dpo", "robust", "ipo", "kto", "reward", "margin", "centred", "grpo", "dr_grpo", "dapo", "rloo",
    }  # fmt: skip
    assert {name: len(values) for name, values in numbers().items()} == {
        name: len(values) for name, values in GIVEN.items()
    }


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("dpo", Dpo(beta=0.3)),
        ("robust", Dpo(beta=0.3, label_smoothing=0.2, smoothing="robust")),
        ("ipo", Ipo(tau=0.3, length_norm=True)),
    ],
)
def test_pairs(name, objective):
    leaf = masked(GIVEN["policy"], GIVEN["lengths"]).requires_grad_()
    ref, lengths = masked(GIVEN["reference"], GIVEN["lengths"]).sum(1), torch.tensor(GIVEN["lengths"])
    sums = leaf.sum(1)
    sides = lengths[:PAIRS], lengths[PAIRS:]
    loss = objective(PairLogps(sums[:PAIRS], sums[PAIRS:], *sides), PairLogps(ref[:PAIRS], ref[PAIRS:], *sides)).mean()
    same(loss, leaf, name)


def test_kto():
    leaf = masked(GIVEN["policy"], GIVEN["lengths"]).requires_grad_()
    ref, other = (masked(GIVEN[name], GIVEN["lengths"]).sum(1) for name in ("reference", "mismatched"))
    good = torch.arange(2 * PAIRS) % 3 > 0
    objective = Kto(beta=0.3, desirable=1.2, undesirable=0.9)
    same(objective(leaf.sum(1), ref, good, (other - ref).mean()).mean(), leaf, "kto")


@pytest.mark.parametrize(
    ("name", "center", "margins"), [("reward", 0.0, None), ("margin", 0.0, [1 / 3] * PAIRS), ("centred", 0.01, None)]
)
def test_reward(name, center, margins):
    leaf = torch.tensor(GIVEN["rewards"], dtype=torch.float64).requires_grad_()
    scores = torch.stack([leaf[:PAIRS], leaf[PAIRS:]], 1).flatten()
    same(BradleyTerry(center=center)(scores, ranked_batch([[1, 2]] * PAIRS, "cpu", margins)).mean(), leaf, name)


@pytest.mark.parametrize(
    ("name", "objective"), [("grpo", Grpo()), ("dr_grpo", DrGrpo()), ("dapo", Dapo()), ("rloo", Rloo())]
)
def test_groups(name, objective):
    leaf = torch.tensor(GIVEN["new"], dtype=torch.float64).requires_grad_()
    old, anchor = (torch.tensor(GIVEN[key], dtype=torch.float64) for key in ("old", "anchor"))
    lengths = torch.tensor(GIVEN["group_lengths"])
    mask = torch.arange(WIDTH)[None] < lengths[:, None]
    rewards = torch.zeros_like(old)
    rewards[torch.arange(GROUPS * ANSWERS), lengths - 1] = torch.tensor(GIVEN["scores"], dtype=torch.float64)
    if objective.kl == "reward":
        rewards = rewards - BETA * (old - anchor) * mask
    advantages = objective.advantages(rewards, mask, ANSWERS)
    same(objective.policy(leaf, old, advantages, mask, ref=anchor, beta=BETA, room=ROOM).mean(), leaf, name)
