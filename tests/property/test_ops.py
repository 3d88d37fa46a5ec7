"""Properties of tensor operations that hold for any input."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heedlm.ops.gae import gae
from heedlm.ops.kl import AdaptiveKl, k1, k2, k3
from heedlm.ops.logprobs import entropy, token_logps
from heedlm.ops.masked import masked_mean, masked_sum, masked_whiten
from heedlm.ops.moments import RunningMoments, reference_affine
from heedlm.ops.ranking import best_of_n_kl, unbiased_best_of_n
from heedlm.ops.sampling import draw, warp
from heedlm.ops.types import Rollouts

seeds = st.integers(0, 2**31 - 1)
sizes = st.integers(1, 6)
scales = st.sampled_from([1e-6, 1.0, 30.0, 1e4])
shares = st.floats(0, 1)


def random(seed, *shape, scale=1.0):
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def integers(seed, high, *shape):
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def contiguous(seed, rows, width):
    """A mask with one run of True in each row, some empty."""
    ends = integers(seed, width + 1, rows, 2).sort(dim=1).values
    place = torch.arange(width)
    return (place >= ends[:, :1]) & (place < ends[:, 1:])


def close(a, b, tol=1e-9):
    torch.testing.assert_close(a, b, atol=tol, rtol=tol)


@given(seeds, sizes, st.integers(2, 8), st.integers(1, 9), scales, st.floats(0.1, 5))
def test_logps_are_log_probabilities(seed, rows, width, vocabulary, scale, temperature):
    logits, tokens = random(seed, rows, width, vocabulary, scale=scale), integers(seed, vocabulary, rows, width)
    logps = token_logps(logits, tokens, temperature)
    assert (logps <= 1e-12).all()
    assert logps[:, 0].eq(0).all()
    close(token_logps(logits + 7, tokens, temperature), logps, tol=1e-7)  # a constant does not matter
    total = torch.stack(
        [token_logps(logits, torch.full_like(tokens, v), temperature).exp() for v in range(vocabulary)]
    ).sum(0)
    close(total[:, 1:], torch.ones(rows, width - 1, dtype=torch.float64), tol=1e-8)


@given(seeds, sizes, st.integers(2, 8), st.integers(1, 9), scales)
def test_padding_on_the_right_leaves_logps_and_entropy(seed, rows, width, vocabulary, scale):
    logits, tokens = random(seed, rows, width, vocabulary, scale=scale), integers(seed, vocabulary, rows, width)
    more = torch.cat([logits, random(seed + 1, rows, 3, vocabulary)], 1)
    wide = torch.cat([tokens, integers(seed + 1, vocabulary, rows, 3)], 1)
    close(token_logps(more, wide)[:, :width], token_logps(logits, tokens), tol=0)
    close(entropy(more)[:, :width], entropy(logits), tol=0)


@given(seeds, sizes, st.integers(2, 6), st.integers(1, 9), scales)
def test_entropy_lies_between_zero_and_log_v(seed, rows, width, vocabulary, scale):
    spread = entropy(random(seed, rows, width, vocabulary, scale=scale))
    assert (spread >= -1e-9).all()
    assert (spread <= math.log(vocabulary) + 1e-9).all()


@given(seeds, sizes, sizes, scales, scales)
def test_whitened_numbers_have_mean_zero_and_at_most_variance_one(seed, rows, width, scale, shift):
    x, mask = shift + random(seed, rows, width, scale=scale), integers(seed, 2, rows, width).bool()
    white = masked_whiten(x, mask)
    assert white.isfinite().all()
    assert white[~mask].eq(0).all()
    close(masked_mean(white, mask), torch.zeros((), dtype=torch.float64), tol=1e-5)
    assert masked_mean(white.square(), mask) <= 1 + 1e-6
    kept = masked_whiten(x, mask, keep_mean=True)
    close(masked_mean(kept, mask), masked_mean(x, mask), tol=1e-5)


@given(seeds, sizes, sizes, seeds)
def test_masked_statistics_do_not_see_order_or_what_is_masked(seed, rows, width, other):
    x, mask = random(seed, rows, width), integers(seed, 2, rows, width).bool()
    changed = torch.where(mask, x, random(other, rows, width, scale=1e6))
    order = torch.randperm(rows * width, generator=torch.Generator().manual_seed(other))
    for statistic in (masked_sum, masked_mean):
        close(statistic(changed, mask), statistic(x, mask))
        close(statistic(x.flatten()[order], mask.flatten()[order]), statistic(x, mask))
        close(statistic(x, mask, dim=1), torch.stack([statistic(x[i], mask[i]) for i in range(rows)]))


@given(seeds, scales)
def test_kl_estimates_vanish_at_the_reference_and_k2_and_k3_are_never_negative(seed, scale):
    logps, ref = random(seed, 20, scale=scale), random(seed + 1, 20, scale=scale)
    for estimate in (k1, k2, k3):
        assert estimate(ref, ref).eq(0).all()
        assert estimate(logps, ref).isfinite().all()
    assert (k2(logps, ref) >= 0).all()
    assert (k3(logps, ref) >= 0).all()
    close(k1(logps, ref), -k1(ref, logps))


@given(st.floats(1e-4, 10), st.floats(-5, 50), st.integers(1, 4096))
def test_the_kl_coefficient_stays_positive_and_moves_by_a_fifth_at_most(beta, kl, examples):
    controller = AdaptiveKl(beta, target=6)
    after = controller.update(kl, examples)
    assert 0 < after <= beta * (1 + 0.2 * examples / 10_000) * (1 + 1e-12)
    assert after >= beta * (1 - 0.2 * examples / 10_000) * (1 - 1e-12)
    assert (after > beta) == (kl > 6) or kl == pytest.approx(6)


@given(seeds, sizes, st.integers(1, 9), shares, shares)
def test_gae_has_its_closed_forms_at_both_ends(seed, rows, width, gamma, lam):
    rewards, values = random(seed, rows, width), random(seed + 1, rows, width)
    mask = contiguous(seed, rows, width)
    advantages, returns = gae(rewards, values, mask, gamma, lam)
    assert advantages[~mask].eq(0).all()
    assert returns[~mask].eq(0).all()
    close(returns, torch.where(mask, advantages + values, 0.0))
    # λ = 1: discounted rewards to come; λ = 0: one step. Both are also right where the row's values are 0.
    place = torch.arange(width)
    ahead = place[None, :] - place[:, None]
    discount = torch.where(ahead >= 0, gamma ** ahead.clamp(min=0).double(), 0.0)
    to_come = torch.where(mask, torch.where(mask, rewards, 0.0) @ discount.T, 0.0)
    close(gae(rewards, values, mask, gamma, 1.0)[1], to_come)
    following = torch.nn.functional.pad(torch.where(mask, values, 0.0), (0, 1))[:, 1:]
    close(gae(rewards, values, mask, gamma, 0.0)[1], torch.where(mask, rewards + gamma * following, 0.0))


@given(seeds, sizes, st.integers(1, 9), st.integers(0, 4), st.integers(0, 4), shares)
def test_gae_does_not_see_padding_or_the_order_of_rows(seed, rows, width, left, right, lam):
    rewards, values = random(seed, rows, width), random(seed + 1, rows, width)
    mask = contiguous(seed, rows, width)
    plain = gae(rewards, values, mask, 0.97, lam)
    pad = torch.nn.functional.pad
    wide = gae(
        pad(rewards, (left, right), value=math.nan),
        pad(values, (left, right), value=math.inf),
        pad(mask, (left, right)),
        0.97,
        lam,
    )
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    moved = gae(rewards[order], values[order], mask[order], 0.97, lam)
    for one, padded, shuffled in zip(plain, wide, moved, strict=True):
        close(padded[:, left : left + width], one, tol=0)
        close(shuffled, one[order], tol=0)


@given(seeds, st.lists(st.integers(0, 9), min_size=1, max_size=6), scales)
def test_moments_do_not_see_how_numbers_were_batched(seed, lengths, scale):
    x = random(seed, sum(lengths), scale=scale)
    moments = RunningMoments()
    for part in x.split(lengths):
        moments.update(part)
    if len(x):
        assert moments.mean == pytest.approx(float(x.mean()), rel=1e-9, abs=1e-12 * scale)
    if len(x) > 1:
        assert moments.std == pytest.approx(float(x.std()), rel=1e-9)
    assert moments.normalise(x, clip=3.0).isfinite().all()


@given(seeds, st.integers(1, 20), st.floats(-5, 5), st.floats(0.1, 5))
def test_reference_scores_are_brought_to_the_wished_scale(seed, count, mean, std):
    scores = 3 + 0.5 * random(seed, count)
    gain, bias = reference_affine(scores, mean, std)
    normalised = gain * scores + bias
    assert float(normalised.mean()) == pytest.approx(mean, abs=1e-9)
    if count > 1:
        assert float(normalised.std(correction=0)) == pytest.approx(std, rel=1e-9)


@given(seeds, sizes, st.integers(1, 12), scales, st.floats(0.05, 4), st.integers(0, 13), st.floats(0.01, 1))
def test_warping_keeps_the_likeliest_tokens_in_their_order(seed, rows, vocabulary, scale, temperature, top_k, top_p):
    logits = random(seed, rows, vocabulary, scale=scale)
    warped = warp(logits, temperature, top_k, top_p)
    kept = warped.isfinite()
    assert kept.gather(1, logits.argmax(1, keepdim=True)).all()
    lowest_kept = logits.masked_fill(~kept, math.inf).amin(1)
    highest_cut = logits.masked_fill(kept, -math.inf).amax(1)
    assert (lowest_kept > highest_cut).all()
    if top_k:
        assert (kept.sum(1) <= top_k).all()
    close(warped.softmax(-1).sum(-1), torch.ones(rows, dtype=torch.float64))
    # Fewer tokens would not hold top_p of what temperature and top-k left.
    before = warp(logits, temperature, top_k).softmax(-1)
    mass = (before * kept).sum(1)
    smallest = before.masked_fill(~kept, math.inf).amin(1)
    assert (mass >= top_p - 1e-9).all()
    assert ((mass - smallest < top_p + 1e-9) | (kept.sum(1) == 1)).all()


@given(seeds, sizes, st.integers(1, 12), scales, st.floats(0, 1, exclude_max=True), st.floats(0, 2))
def test_a_drawn_token_is_possible_and_its_logp_is_the_warped_ones(seed, rows, vocabulary, scale, number, temperature):
    logits = random(seed, rows, vocabulary, scale=scale)
    tokens, logps = draw(logits, torch.full((rows,), number, dtype=torch.float64), temperature, 5, 0.9)
    assert logps.isfinite().all()
    if temperature == 0:
        assert tokens.equal(logits.argmax(1))
    else:
        expected = warp(logits, temperature, 5, 0.9).log_softmax(-1).gather(1, tokens[:, None])[:, 0]
        close(logps, expected)


@given(seeds, st.integers(1, 12), st.data())
def test_best_of_n_grows_with_n_where_proxy_is_gold_and_ignores_order(seed, pool, data):
    gold = random(seed, pool)
    order = torch.randperm(pool, generator=torch.Generator().manual_seed(seed))
    means = [float(unbiased_best_of_n(gold, gold, n)) for n in range(1, pool + 1)]
    assert means == sorted(means)
    assert means[0] == pytest.approx(float(gold.mean()))
    assert means[-1] == pytest.approx(float(gold.max()))
    n = data.draw(st.integers(1, pool))
    proxy = integers(seed, 3, pool).double()  # many ties
    close(unbiased_best_of_n(proxy[order], gold[order], n), unbiased_best_of_n(proxy, gold, n))
    assert 0 <= best_of_n_kl(n) < best_of_n_kl(n + 1)


@given(seeds, sizes, sizes, st.integers(1, 5))
def test_joining_and_selecting_rollouts_loses_nothing(seed, first, second, width):
    def rollouts(seed, rows, width):
        bounds = integers(seed, width + 1, rows, 2).sort(dim=1).values
        logps = random(seed, rows, width)
        made = Rollouts(
            integers(seed, 9, rows, width), bounds[:, 0], bounds[:, 1], logps, integers(seed, 2, rows).bool()
        )
        assert made.response_mask.sum(1).equal(made.response_lengths)
        assert (made.response_mask & ~made.mask).sum() == 0
        return made

    one, other = rollouts(seed, first, width), rollouts(seed + 1, second, 2 * width)
    both = Rollouts.cat([one, other])
    assert both.responses() == one.responses() + other.responses()
    back = both.select(range(first, first + second))
    assert back.responses() == other.responses()
    assert back.logps.equal(other.logps)
    assert back.ended.equal(other.ended)
