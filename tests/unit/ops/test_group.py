"""Advantages from a prompt's other answers: N13, what is refused, rewards to go, and the price of length."""

import pytest
import torch

from heedlm.ops.group import all_alike, group_baseline, group_deviation, overlong_penalty, rewards_to_go

REWARDS = [1, 0, 0.5, 0.9]


def test_n13_leave_one_out(f64, near):
    scores = f64(REWARDS)
    found = scores - group_baseline(scores, "leave_one_out")
    near(found, [[1 - 1.4 / 3, 0 - 2.4 / 3, 0.5 - 1.9 / 3, 0.9 - 1.5 / 3]])
    near(found, [[0.533333, -0.8, -0.133333, 0.4]])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("none", [0.4, -0.6, -0.1, 0.3]),
        ("sample", [0.879689, -1.319534, -0.219922, 0.659767]),
        ("population", [1.016001, -1.524002, -0.254, 0.762001]),
    ],
)
def test_n13_deviations(kind, expected, f64, near):
    scores = f64(REWARDS)
    # (.4, −.6, −.1, .3) ÷ (√(.62/3) + 1e-4), and ÷ √(.62/4)
    near((scores - group_baseline(scores, "mean")) / group_deviation(scores, kind), [expected])


def test_groups_do_not_mix(f64, near):
    scores = f64(REWARDS, [7, 7, 7, 7])
    assert group_baseline(scores, "mean")[1].tolist() == [7.0] * 4
    near(group_baseline(scores, "leave_one_out")[0], group_baseline(scores[:1], "leave_one_out")[0])
    assert not group_baseline(scores, "none").any()
    for kind in ("sample", "population"):
        near(group_deviation(scores, kind)[1], [1e-4])
    assert all_alike(scores).tolist() == [False, True]


def test_one_answer_has_nothing_to_be_compared_with(f64):
    one = f64([1.0], [2.0])
    for kind in ("mean", "leave_one_out"):
        with pytest.raises(ValueError, match="at least 2 answers"):
            group_baseline(one, kind)
    for kind in ("sample", "population"):
        with pytest.raises(ValueError, match="at least 2 answers"):
            group_deviation(one, kind)
    assert group_baseline(one, "none").tolist() == [[0], [0]]
    assert group_deviation(one, "none").tolist() == [[1], [1]]


def test_rewards_to_go_sum_up_what_follows(f64, near):
    rewards = f64([9, 1, 2, 3, float("nan")], [4, 5, 9, 9, 9])
    mask = torch.tensor([[False, True, True, True, False], [True, True, False, False, False]])
    near(rewards_to_go(rewards, mask), [[0, 6, 5, 3, 0], [9, 5, 0, 0, 0]])


def test_length_costs_in_the_last_part_of_the_limit_only(near):
    lengths = torch.tensor([1, 80, 85, 90, 100])
    near(overlong_penalty(lengths, 100, 0.2), [0, 0, 0.25, 0.5, 1])
    near(overlong_penalty(lengths, 100, 0.0), [0] * 5)
    near(overlong_penalty(lengths, 100, 1.0), [0.01, 0.8, 0.85, 0.9, 1])
