"""From scores to per-token rewards, against numbers worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heedlm.errors import NotFinite
from heedlm.rewards.shaping import Shaper, Shaping, token_rewards

ALL = torch.tensor([True] * 4)


def test_worked_number_n8(f64, near):
    logps, reference = f64([-1, -0.5, -2, -0.3]), f64([-1.2, -0.4, -1.5, -0.6])
    rewards = token_rewards(f64(1.5), logps - reference, torch.ones(1, 4, dtype=torch.bool), 0.05)
    near(rewards, [[-0.01, 0.005, 0.025, 1.485]])


def test_the_score_falls_on_the_last_real_token_of_each_response(f64, near):
    mask = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 0, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    kl = torch.full((4, 5), 2.0, dtype=torch.float64)
    rewards = token_rewards(f64(10, 20, 30, 40), kl, mask, 0.1)
    near(rewards, [[0, -0.2, 9.8, 0, 0], [0, 0, 0, -0.2, 19.8], [29.8, 0, 0, 0, 0], [0, 0, 0, 0, 0]])


def test_rewards_of_single_steps_are_added_inside_the_response_only(f64, near):
    mask = torch.tensor([[False, True, True, False]])
    rewards = token_rewards(f64(1.0), f64([9, 9, 9, 9]), mask, 0.0, steps=f64([5, 0.5, -0.25, 5]))
    near(rewards, [[0, 0.5, 0.75, 0]])


def test_what_lies_outside_the_response_may_be_anything(f64, near):
    mask = torch.tensor([[False, True, False]])
    rewards = token_rewards(f64(1.0), f64([math.nan, 1.0, math.inf]), mask, 0.5)
    near(rewards, [[0, 0.5, 0]])


def test_normalised_with_a_missing_end_then_clipped(f64, near):
    """Scores 1 2 3 4: mean 2.5, unbiased deviation 1.290994 (N11). An answer without an end loses a deviation."""
    shaper = Shaper(Shaping(scale="normalise", clip=1.0, missing_eos=1.0))
    shaped = shaper(f64(1, 2, 3, 4), torch.tensor([True, False, True, False]))
    near(shaped, [-1.0, -1.0, 0.387298, 0.161895])
    shaper = Shaper(Shaping(scale="normalise", clip=None, missing_eos=1.0))
    near(shaper(f64(1, 2, 3, 4), torch.tensor([True, False, True, False])), [-1.161895, -1.387298, 0.387298, 0.161895])


def test_moments_run_over_all_buffers_and_are_those_of_raw_scores(f64, near):
    """N11: after 1 2 3 4 come 2 8; the missing end of the second must not enter mean and deviation."""
    shaper = Shaper(Shaping(clip=0.8, missing_eos=0.0))
    shaper(f64(1, 2, 3, 4), ~ALL)
    near(shaper(f64(2, 8), torch.tensor([True, False])), [(2 - 3.333333) / 2.503331, 0.8])
    near([shaper.moments.mean, shaper.moments.std], [3.333333, 2.503331])


def test_scaled_keeps_the_mean_and_none_keeps_the_unit(f64, near):
    scaled = Shaper(Shaping(scale="scale", clip=None, missing_eos=0.0))
    near(scaled(f64(1, 2, 3, 4), ALL), torch.tensor([1.0, 2, 3, 4]) / 1.290994449)
    plain = Shaper(Shaping(scale="none", clip=3.5, missing_eos=2.0))
    near(plain(f64(1, 2, 3, 4), torch.tensor([True, True, False, True])), [1, 2, 3 - 2 * 1.290994, 3.5])


@pytest.mark.parametrize(
    ("scale", "clip", "expected"),
    [("normalise", None, [0, -2, 0, 0]), ("scale", None, [0.3, -1.7, 0.3, 0.3]), ("none", 1.0, [0.3, -1, 0.3, 0.3])],
)
def test_scores_that_are_all_alike_are_not_blown_up(near, scale, clip, expected):
    """A rule that no answer fulfils gives such a buffer; the penalty for a missing end must still be felt."""
    shaper = Shaper(Shaping(scale=scale, clip=clip, missing_eos=2.0))
    near(shaper(torch.full((4,), 0.3), torch.tensor([True, False, True, True])), expected)


def test_a_single_score_survives(near):
    near(Shaper(Shaping())(torch.tensor([7.0]), torch.tensor([True])), [0.0])


def test_kl_comes_after_the_clip(f64, near):
    """Score 100 is clipped to 2 before the KL penalty, which is not clipped: 2 − 0.5·3 on the last token."""
    shaped = Shaper(Shaping(scale="none", clip=2.0, missing_eos=0.0))(f64(100.0), torch.tensor([True]))
    rewards = token_rewards(shaped, f64([0, 8, 3]), torch.tensor([[False, True, True]]), 0.5)
    near(rewards, [[0, -4, 0.5]])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_no_number_stops_and_names_the_answer(f64, bad):
    shaper = Shaper(Shaping())
    shaper(f64(1, 2), torch.tensor([True, True]))
    before = shaper.state_dict()
    with pytest.raises(NotFinite, match=rf"reward of answer 3 of 4 in the buffer is {bad}"):
        shaper(f64(1, 2, bad, 4), ALL)
    assert shaper.state_dict() == before


@given(st.lists(st.lists(st.floats(-100, 100), min_size=1, max_size=5), min_size=2, max_size=5))
def test_a_shaper_goes_on_from_its_state(batches):
    one, two = Shaper(Shaping()), Shaper(Shaping())
    for batch in batches[:-1]:
        one(torch.tensor(batch), torch.ones(len(batch), dtype=torch.bool))
    two.load_state_dict(one.state_dict())
    last = torch.tensor(batches[-1])
    ended = torch.zeros(len(last), dtype=torch.bool)
    assert torch.equal(one(last, ended), two(last, ended))
    assert one.state_dict() == two.state_dict()


def test_masked_answers_are_not_penalised_besides():
    scores, ended = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([True, True, True, False])
    shaped = Shaper(Shaping(truncated="mask"))(scores, ended)
    assert torch.equal(shaped, Shaper(Shaping(missing_eos=0.0))(scores, ended))
    assert float(Shaper(Shaping())(scores, ended)[3]) < float(shaped[3])
