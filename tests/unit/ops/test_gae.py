"""GAE: N8, and equality with the sum it is defined by, wherever each row's response lies."""

import math

import pytest
import torch

from heedlm.ops.gae import gae
from heedlm.ops.masked import masked_whiten

# N8: r_t = −.05·(log π − log π_ref), plus 1.5 on the last token.
REWARDS = [-0.05 * 0.2, -0.05 * -0.1, -0.05 * -0.5, -0.05 * 0.3 + 1.5]
VALUES = [0.2, 0.4, 0.1, 0.8]
ALL = torch.ones(1, 4, dtype=torch.bool)


def test_n8_deltas_by_hand(f64, near):
    # λ = 0 leaves δ: −.01+.4−.2, .005+.1−.4, .025+.8−.1, 1.485−.8.
    near(f64(*REWARDS), [-0.01, 0.005, 0.025, 1.485])
    advantages, returns = gae(f64(REWARDS), f64(VALUES), ALL, 1.0, 0.0)
    near(advantages, [[0.19, -0.295, 0.725, 0.685]])
    near(returns, [[0.39, 0.105, 0.825, 1.485]])


def test_n8_lambda_95_by_hand(f64, near):
    # From the back: .685; .725+.95·.685; −.295+.95·1.37575; .19+.95·1.0119625.
    last = 0.685
    third = 0.725 + 0.95 * last
    second = -0.295 + 0.95 * third
    first = 0.19 + 0.95 * second
    advantages, returns = gae(f64(REWARDS), f64(VALUES), ALL, 1.0, 0.95)
    near(advantages, [[first, second, third, last]], tol=1e-12)
    near(advantages, [[1.151364, 1.011963, 1.375750, 0.685]])
    near(returns, [[1.351364, 1.411963, 1.475750, 1.485]])
    near(masked_whiten(advantages, ALL), [[0.380685, -0.175905, 1.276590, -1.481369]])


@pytest.mark.parametrize(
    ("lam", "expected"),
    [(0.9, [1.011115, 0.912350, 1.341500, 0.685]), (1.0, [1.305, 1.115, 1.41, 0.685])],
)
def test_n8_other_lambdas(lam, expected, f64, near):
    near(gae(f64(REWARDS), f64(VALUES), ALL, 1.0, lam)[0], [expected])


def test_lambda_one_is_rewards_to_come_minus_value(f64, near):
    advantages, returns = gae(f64(REWARDS), f64(VALUES), ALL, 1.0, 1.0)
    to_come = [sum(REWARDS[t:]) for t in range(4)]
    near(returns, [to_come])
    near(advantages, [[r - v for r, v in zip(to_come, VALUES, strict=True)]])


def test_each_row_begins_and_ends_where_its_response_does(f64, near):
    """Prompt, response, padding: what prompt and padding hold must not leak in, NaN least of all."""
    junk = math.nan
    rewards = f64([*REWARDS, junk, junk], [junk, *REWARDS, junk], [junk, junk, *REWARDS], [junk] * 6)
    values = f64([*VALUES, 9, junk], [junk, *VALUES, 7], [5, junk, *VALUES], [junk] * 6)
    mask = rewards.isfinite()
    advantages, returns = gae(rewards, values, mask, 1.0, 0.95)
    alone, alone_returns = gae(f64(REWARDS), f64(VALUES), ALL, 1.0, 0.95)
    for row, start in enumerate((0, 1, 2)):
        near(advantages[row, start : start + 4], alone[0], tol=1e-12)
        near(returns[row, start : start + 4], alone_returns[0], tol=1e-12)
    assert advantages[~mask].eq(0).all()
    assert returns[~mask].eq(0).all()


def test_equals_the_sum_it_is_defined_by(near):
    torch.manual_seed(0)
    B, T, gamma, lam = 5, 9, 0.97, 0.9
    rewards, values = torch.randn(2, B, T, dtype=torch.float64)
    starts, ends = [0, 2, 3, 8, 4], [9, 5, 9, 9, 4]
    position = torch.arange(T)
    mask = torch.stack([(position >= s) & (position < e) for s, e in zip(starts, ends, strict=True)])
    advantages, returns = gae(rewards, values, mask, gamma, lam)
    for b, (start, end) in enumerate(zip(starts, ends, strict=True)):
        for t in range(T):
            if not start <= t < end:
                assert advantages[b, t] == returns[b, t] == 0
                continue
            total = 0.0
            for step in range(t, end):
                following = float(values[b, step + 1]) if step + 1 < end else 0.0
                delta = float(rewards[b, step]) + gamma * following - float(values[b, step])
                total += (gamma * lam) ** (step - t) * delta
            near(advantages[b, t], total, tol=1e-12)
            near(returns[b, t], total + float(values[b, t]), tol=1e-12)


def test_one_token_and_none(f64, near):
    advantages, returns = gae(f64([2.0]), f64([0.5]), torch.tensor([[True]]))
    near(advantages, [[1.5]])
    near(returns, [[2.0]])
    empty = torch.zeros(2, 0)
    assert gae(empty, empty, empty.bool())[0].shape == (2, 0)


def test_low_precision_is_widened():
    rewards = torch.randn(2, 5).bfloat16()
    assert gae(rewards, rewards, torch.ones(2, 5).bool())[0].dtype == torch.float32
