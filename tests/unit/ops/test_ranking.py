"""Best of n: N14, and the estimate against every subset counted out."""

import itertools
import math

import pytest
import torch

from heedlm.ops.ranking import best_of_n_kl, unbiased_best_of_n


@pytest.mark.parametrize(
    ("n", "expected"),
    [(1, 0), (2, 0.193147), (4, 0.636294), (16, 1.835089), (64, 3.174508), (256, 4.549084), (1000, 5.908755)],
)
def test_n14_kl(n, expected, near):
    near(best_of_n_kl(n), math.log(n) - (n - 1) / n)
    near(best_of_n_kl(n), expected)


@pytest.mark.parametrize(("n", "expected"), [(1, 0.36), (2, 0.43), (3, 0.39), (5, 0.2)])
def test_n14_gold(n, expected, f64, near):
    # By proxy the golds are 0, .5, .3, .8, .2. n = 2: (0·0 + 1·.5 + 2·.3 + 3·.8 + 4·.2)/10 = .43.
    proxy, gold = f64(0.1, 0.4, 0.2, 0.9, 0.7), f64(0, 0.3, 0.5, 0.2, 0.8)
    near(unbiased_best_of_n(proxy, gold, n), expected)


def test_the_order_of_n14s_golds(f64, near):
    proxy, gold = f64(0.1, 0.4, 0.2, 0.9, 0.7), f64(0, 0.3, 0.5, 0.2, 0.8)
    near(gold[proxy.argsort()], [0.0, 0.5, 0.3, 0.8, 0.2])


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_equals_the_mean_over_all_subsets(n, near):
    """With ties, the winner of a subset is any of its best, each equally likely."""
    torch.manual_seed(n)
    proxy = torch.tensor([[0.0, 1.0, 1.0, 2.0, 2.0, 2.0], [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]], dtype=torch.float64)
    gold = torch.randn(2, 6, dtype=torch.float64)
    found = unbiased_best_of_n(proxy, gold, n)
    for row in range(2):
        means = []
        for subset in itertools.combinations(range(6), n):
            best = max(float(proxy[row, i]) for i in subset)
            winners = [float(gold[row, i]) for i in subset if float(proxy[row, i]) == best]
            means.append(sum(winners) / len(winners))
        near(found[row], sum(means) / len(means), tol=1e-12)


def test_large_pools_do_not_overflow(near):
    x = torch.arange(2000, dtype=torch.float64)
    near(unbiased_best_of_n(x, x, 2000), 1999.0)
    near(unbiased_best_of_n(x, torch.ones_like(x), 64), 1.0)


@pytest.mark.parametrize("n", [0, 6, -1])
def test_an_impossible_n_is_refused(n, f64):
    with pytest.raises(ValueError, match="best of n needs n"):
        unbiased_best_of_n(f64(1, 2, 3), f64(1, 2, 3), n)
    if n < 1:
        with pytest.raises(ValueError, match="best of n needs n"):
            best_of_n_kl(n)
