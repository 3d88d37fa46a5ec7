"""Reward-model losses: N3, N4, N5, ties, margins, and what each prompt weighs."""

import dataclasses
import itertools
import math

import pytest
import torch
from pydantic import ValidationError

from heedlm.objectives import BradleyTerry, RankedBatch, ranked_batch

PAIR = (1.2, 0.3)  # N3: Δ = .9


def log_sigmoid(x):
    return -math.log1p(math.exp(-x))


def mean(objective, scores, ranks, **changes):
    batch = dataclasses.replace(ranked_batch([ranks]), **changes)
    return objective(torch.tensor(scores, dtype=torch.float64), batch).mean()


def number(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_n3_pair(near):
    near(mean(BradleyTerry(), PAIR, [1, 2]), -log_sigmoid(0.9))
    near(mean(BradleyTerry(), PAIR, [1, 2]), 0.341154)


def test_n3_margin(near):
    near(mean(BradleyTerry(), PAIR, [1, 2], margin=number(1 / 3)), -log_sigmoid(0.9 - 1 / 3))
    near(mean(BradleyTerry(), PAIR, [1, 2], margin=number(1 / 3)), 0.449427)


def test_n3_smoothing(near):
    near(
        mean(BradleyTerry(label_smoothing=0.1), PAIR, [1, 2]),
        -0.9 * log_sigmoid(0.9) - 0.1 * log_sigmoid(-0.9),
    )
    near(mean(BradleyTerry(label_smoothing=0.1), PAIR, [1, 2]), 0.431154)


def test_n3_soft_target(near):
    found = mean(BradleyTerry(), PAIR, [1, 2], target=number(0.6))
    near(found, -0.6 * log_sigmoid(0.9) - 0.4 * log_sigmoid(-0.9))
    near(found, 0.701154)


def test_n3_the_other_ways_of_writing_it(near):
    # With 1e-5 inside the logarithm; with the imitation term that the reward stage adds (NLL 2, weight 1).
    pair = float(mean(BradleyTerry(), PAIR, [1, 2]))
    near(-math.log(math.exp(-pair) + 1e-5), 0.341140)
    near(pair + 1.0 * 2.0, 2.341154)


def test_smoothing_a_soft_target_mixes_both(near):
    # The label is right with .6·.9 + .4·.1 = .58.
    found = mean(BradleyTerry(label_smoothing=0.1), PAIR, [1, 2], target=number(0.6))
    near(found, -0.58 * log_sigmoid(0.9) - 0.42 * log_sigmoid(-0.9))


def test_n4_ranking(near):
    scores = (2.0, 1.0, 0.5, -1.0)
    batch = ranked_batch([[1, 2, 3, 4]])
    loss = BradleyTerry()(torch.tensor(scores, dtype=torch.float64), batch)
    gaps = [a - b for a, b in itertools.combinations(scores, 2)]  # 1, 1.5, 3, .5, 2, 1.5
    near(sorted(gaps), [0.5, 1.0, 1.5, 1.5, 2.0, 3.0])
    near(loss.mean(), sum(-log_sigmoid(gap) for gap in gaps) / 6)
    near(loss.mean(), 0.227613)
    near(loss.count, 1.0)


@pytest.mark.parametrize(("size", "pairs"), [(4, 6), (5, 10), (6, 15), (7, 21), (8, 28), (9, 36)])
def test_n4_pairs(size, pairs, near):
    batch = ranked_batch([list(range(1, size + 1))])
    assert len(batch.better) == pairs
    near(batch.weight, [1 / pairs] * pairs)


@pytest.mark.parametrize(
    ("objective", "win", "tie", "lose"),
    [
        (BradleyTerry(ties="rao_kupper", theta=1.5), 0.621174, 0.165579, 0.213247),
        (BradleyTerry(ties="davidson", nu=0.5), 0.579581, 0.184779, 0.235640),
    ],
)
def test_n5(objective, win, tie, lose, near):
    found = [math.exp(-float(mean(objective, PAIR, ranks))) for ranks in ([1, 2], [1, 1], [2, 1])]
    near(found, [win, tie, lose])
    near(sum(found), 1.0, tol=1e-12)


def test_n5_by_hand(near):
    a, b = math.exp(1.2), math.exp(0.3)
    near(mean(BradleyTerry(ties="rao_kupper"), PAIR, [1, 2]), -math.log(a / (a + 1.5 * b)))
    tie = (1.5**2 - 1) * a * b / ((a + 1.5 * b) * (1.5 * a + b))
    near(mean(BradleyTerry(ties="rao_kupper"), PAIR, [1, 1]), -math.log(tie))
    root = 0.5 * math.sqrt(a * b)
    near(mean(BradleyTerry(ties="davidson"), PAIR, [1, 2]), -math.log(a / (a + b + root)))
    near(mean(BradleyTerry(ties="davidson"), PAIR, [1, 1]), -math.log(root / (a + b + root)))


@pytest.mark.parametrize(
    "objective", [BradleyTerry(ties="rao_kupper", theta=1 + 1e-9), BradleyTerry(ties="davidson", nu=1e-9)]
)
def test_tie_models_become_bradley_terry_where_ties_vanish(objective, near):
    near(mean(objective, PAIR, [1, 2]), 0.341154)


def test_half_votes(near):
    near(mean(BradleyTerry(), PAIR, [1, 1]), -0.5 * log_sigmoid(0.9) - 0.5 * log_sigmoid(-0.9))


@pytest.mark.parametrize("ties", ["half", "rao_kupper", "davidson"])
def test_a_tie_pulls_scores_together(ties):
    scores = torch.tensor(PAIR, dtype=torch.float64, requires_grad=True)
    BradleyTerry(ties=ties)(scores, ranked_batch([[1, 1]])).mean().backward()
    assert scores.grad is not None
    assert scores.grad[0] > 0 > scores.grad[1]


def test_centring(near):
    near(mean(BradleyTerry(center=0.01), PAIR, [1, 2]), -log_sigmoid(0.9) + 0.01 * 1.5**2)
    tied = mean(BradleyTerry(), PAIR, [1, 1])
    near(mean(BradleyTerry(center=0.01), PAIR, [1, 1]), float(tied) + 0.01 * 1.5**2)


def test_every_prompt_weighs_one(near):
    ranks = [[1, 2], [3, 1, 1, 2], [1, 1]]
    batch = ranked_batch(ranks)
    assert batch.better.tolist() == [0, 3, 4, 5, 3, 4]
    assert batch.worse.tolist() == [1, 2, 2, 2, 5, 5]
    assert (batch.tie_a.tolist(), batch.tie_b.tolist()) == ([3, 6], [4, 7])
    near(batch.weight, [1.0] + [1 / 6] * 5)
    near(batch.tie_weight, [1 / 6, 1.0])
    scores = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss = BradleyTerry()(scores, batch)
    near(loss.count, 3.0, tol=1e-12)
    alone = [BradleyTerry()(scores[a:b], ranked_batch([r])).mean() for a, b, r in
             ((0, 2, ranks[0]), (2, 6, ranks[1]), (6, 8, ranks[2]))]  # fmt: skip
    near(loss.mean(), sum(alone) / 3, tol=1e-12)


def test_margins_reach_the_decided_pairs_of_their_prompt(near):
    batch = ranked_batch([[1, 2, 2], [2, 1]], margins=[0.5, 3.0])
    assert batch.margin is not None
    near(batch.margin, [0.5, 0.5, 3.0])


@pytest.mark.parametrize(
    ("size", "expected"), [("none", [0, 0, 0, 0]), ("small", [1, 2 / 3, 1 / 3, 0]), ("large", [3, 2, 1, 0])]
)
def test_margins_of_llama_2(size, expected, near):
    objective = BradleyTerry(margin=size)
    near([objective.margin_for(s) for s in ("significantly", "better", "slightly", "negligibly")], expected)
    assert objective.margin_for(None) == 0.0


def test_metrics_by_hand(near):
    # Pair (2, 1) right, (0, 3) wrong, (5, 5) undecided by the model, and one pair tied by people.
    scores = torch.tensor([2.0, 1.0, 0.0, 3.0, 5.0, 5.0, 9.0, 1.0])
    loss = BradleyTerry()(scores, ranked_batch([[1, 2], [1, 2], [1, 2], [1, 1]]))
    near(loss.metrics["accuracy"], (1 + 0 + 0.5 + 0.5) / 4)
    near(loss.metrics["difference"], (1 - 3 + 0) / 4)
    near(loss.metrics["score_mean"], 26 / 8)


def test_scores_that_no_comparison_names_change_nothing(near):
    batch = ranked_batch([[1, 2], [1, 1]])
    scores = torch.tensor([1.2, 0.3, 0.5, -1.0], dtype=torch.float64)
    moved = dataclasses.replace(
        batch, better=batch.better + 1, worse=batch.worse + 1, tie_a=batch.tie_a + 1, tie_b=batch.tie_b + 1
    )
    among = torch.cat([number(1e6), scores, number(math.nan)]).requires_grad_()
    loss = BradleyTerry()(among, moved)
    near(loss.values, BradleyTerry()(scores, batch).values, tol=1e-12)
    loss.mean().backward()
    assert among.grad is not None
    assert among.grad[0] == among.grad[-1] == 0


def test_no_pairs_is_no_loss(near):
    none = torch.zeros(0, dtype=torch.long)
    loss = BradleyTerry()(torch.zeros(2), RankedBatch(none, none, none, none, torch.zeros(0), torch.zeros(0)))
    near([loss.values.sum(), loss.count, loss.mean(), loss.metrics["accuracy"]], [0.0] * 4)


@pytest.mark.parametrize("ties", ["half", "rao_kupper", "davidson"])
@pytest.mark.parametrize("ranks", [[1, 2], [2, 1], [1, 1]])
def test_finite_where_sigmoid_has_long_vanished(ties, ranks):
    scores = torch.tensor([3e4, -3e4], requires_grad=True)
    loss = BradleyTerry(ties=ties, label_smoothing=0.1)(scores, ranked_batch([ranks])).mean()
    loss.backward()
    assert scores.grad is not None
    assert loss.isfinite()
    assert scores.grad.isfinite().all()


def test_half_precision_scores_are_widened(near):
    scores = torch.tensor([1.2, 0.3], dtype=torch.bfloat16)
    loss = BradleyTerry()(scores, ranked_batch([[1, 2]]))
    assert loss.values.dtype == torch.float32
    near(loss.mean(), -log_sigmoid(float(scores[0]) - float(scores[1])))


@pytest.mark.parametrize("ranks", [[[1, 2], [1]], [[]]])
def test_one_answer_is_no_comparison(ranks):
    with pytest.raises(ValueError, match="a comparison needs two"):
        ranked_batch(ranks)


@pytest.mark.parametrize(
    "wrong", [{"theta": 1.0}, {"nu": 0.0}, {"label_smoothing": 0.5}, {"center": -1.0}, {"ties": "none"}]
)
def test_settings_without_meaning_are_refused(wrong):
    with pytest.raises(ValidationError):
        BradleyTerry(**wrong)


def test_the_curve_of_minus_log_sigmoid(near):
    """Loss against Δ = −5 … 5: straight down on the left, log 2 in the middle, vanishing on the right."""
    differences = torch.arange(-5.0, 6.0, dtype=torch.float64)
    losses = [float(mean(BradleyTerry(), (float(d), 0.0), [1, 2])) for d in differences]
    near(losses, [math.log1p(math.exp(-float(d))) for d in differences])
    near([losses[0], losses[5], losses[10]], [5.006715, 0.693147, 0.006715])
    near([a - b for a, b in zip(losses, losses[::-1], strict=True)], [-float(d) for d in differences])
