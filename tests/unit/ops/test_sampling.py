"""Sampling: what warping keeps, and that frequencies are those of theory."""

import math

import pytest
import torch

from heedlm.errors import NotFinite
from heedlm.ops.sampling import draw, pick, sample, warp

PROBS = [0.4, 0.25, 0.15, 0.1, 0.06, 0.04]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def theory(temperature, top_k, top_p):
    """Probabilities left, computed with lists: powers, the k likeliest, the smallest set of mass p."""
    weights = [p ** (1 / temperature) for p in PROBS]  # PROBS falls, so the likeliest come first
    if top_k:
        weights = weights[:top_k]
    total, kept, mass = sum(weights), [], 0.0
    for weight in weights:
        if mass >= top_p:
            break
        kept.append(weight)
        mass += weight / total
    return [w / sum(kept) for w in kept] + [0.0] * (len(PROBS) - len(kept))


SETTINGS = [
    (1.0, 0, 1.0), (0.5, 0, 1.0), (2.0, 0, 1.0), (1.0, 3, 1.0), (1.0, 1, 1.0), (1.0, 99, 1.0),
    (1.0, 0, 0.7), (1.0, 0, 0.39), (1.0, 0, 0.95), (0.7, 4, 0.8), (1.5, 5, 0.9), (1.0, 2, 0.5),
]  # fmt: skip


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), SETTINGS)
def test_warped_probabilities_are_those_of_theory(temperature, top_k, top_p, near):
    shuffle = torch.tensor([3, 0, 5, 1, 4, 2])
    logits = torch.tensor(PROBS, dtype=torch.float64).log()[shuffle]
    found = warp(logits, temperature, top_k, top_p).softmax(-1)
    near(found, torch.tensor(theory(temperature, top_k, top_p))[shuffle], tol=1e-6)


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), SETTINGS)
def test_frequencies_are_those_of_theory(temperature, top_k, top_p):
    draws = 20_000
    logits = torch.tensor(PROBS).log().expand(draws, -1)
    tokens, logps = sample(logits, generator(7), temperature, top_k, top_p)
    expected = draws * torch.tensor(theory(temperature, top_k, top_p), dtype=torch.float64)
    counts = torch.bincount(tokens, minlength=len(PROBS)).double()
    assert counts[expected == 0].sum() == 0
    kept = expected > 0
    statistic = ((counts - expected)[kept].square() / expected[kept]).sum()
    freedom = torch.tensor((int(kept.sum()) - 1) / 2, dtype=torch.float64)
    # The chi-square tail is Q(freedom/2, statistic/2). A single token left must simply be drawn always.
    assert (statistic == 0) if freedom == 0 else torch.special.gammaincc(freedom, statistic / 2) > 0.01
    wanted = (expected / draws).log()[tokens]
    torch.testing.assert_close(logps.double(), wanted, atol=1e-5, rtol=0)


def test_the_chi_square_test_sees_a_wrong_temperature():
    """The same statistic, sampling at 1.0 where theory says 1.1: the test above is able to fail."""
    draws = 20_000
    tokens, _ = sample(torch.tensor(PROBS).log().expand(draws, -1), generator(7), 1.0)
    expected = draws * torch.tensor(theory(1.1, 0, 1.0), dtype=torch.float64)
    statistic = ((torch.bincount(tokens, minlength=6) - expected).square() / expected).sum()
    assert torch.special.gammaincc(torch.tensor(2.5, dtype=torch.float64), statistic / 2) < 0.01


def test_the_seed_decides():
    logits = torch.randn(64, 40, generator=generator(1))
    first, again = sample(logits, generator(3)), sample(logits, generator(3))
    assert first[0].equal(again[0])
    assert first[1].equal(again[1])
    assert not first[0].equal(sample(logits, generator(4))[0])


def test_one_number_is_drawn_for_each_row_whatever_the_vocabulary():
    """So rows that leave a batch at its end do not change what the rows before them draw."""
    logits = torch.randn(8, 30, generator=generator(1))
    assert sample(logits[:5], generator(3))[0].equal(sample(logits, generator(3))[0][:5])
    used, plain = generator(3), generator(3)
    sample(logits, used, 0.5, 7, 0.9)
    torch.rand((8, 1), generator=plain, dtype=torch.float64)
    assert used.get_state().equal(plain.get_state())


def test_a_number_falls_on_the_token_whose_stretch_holds_it():
    # Probabilities .4, 0, .6: [0, .4) is token 0, [.4, 1) token 2.
    logits = torch.tensor([0.4, 0.0, 0.6], dtype=torch.float64).log().expand(6, -1)
    numbers = torch.tensor([0.0, 0.2, 0.39999, 0.40001, 0.9, 1.0], dtype=torch.float64)
    tokens, logps = draw(logits, numbers)
    assert tokens.tolist() == [0, 0, 0, 2, 2, 2]
    torch.testing.assert_close(logps.exp(), torch.tensor([0.4, 0.4, 0.4, 0.6, 0.6, 0.6], dtype=torch.float64))


def test_no_number_falls_on_an_excluded_token_at_the_end():
    logits = torch.tensor([[0.0, 0.3, -torch.inf]]).expand(3, -1)
    tokens, _ = draw(logits, torch.tensor([1.0, 1 - 2**-53, 0.999], dtype=torch.float64))
    assert tokens.tolist() == [1, 1, 1]


def test_temperature_zero_is_greedy_and_certain(near):
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, -1.0, 5.1]])
    untouched = generator(0)
    tokens, logps = sample(logits, untouched, 0.0)
    assert tokens.tolist() == [1, 2]
    near(logps, [0.0, 0.0])
    assert untouched.get_state().equal(generator(0).get_state())


@pytest.mark.parametrize("temperature", [1e-6, 1e-30])
def test_a_tiny_temperature_is_greedy_too(temperature, near):
    tokens, logps = sample(torch.tensor([[80.0, 3.0, 79.0]]), generator(), temperature)
    assert tokens.tolist() == [0]
    near(logps, [0.0])


def test_a_token_that_ties_with_the_kth_stays(near):
    near(warp(torch.zeros(4), top_k=2).softmax(-1), [0.25] * 4)
    near(warp(torch.tensor([1.0, 0.0, 0.0, -1.0]), top_k=2).isfinite().double(), [1.0, 1.0, 1.0, 0.0])


def test_top_p_keeps_one_token_however_small_it_is(near):
    near(warp(torch.tensor([0.0, 2.0, 1.0]), top_p=1e-9).softmax(-1), [0.0, 1.0, 0.0])


def test_top_p_keeps_no_more_than_it_needs(near):
    """Sums of these are exact: .5 is reached by one token, .75 by two; of equal ones the first is taken."""
    logits = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64).log()
    near(warp(logits, top_p=0.5).softmax(-1), [0.0, 1.0, 0.0])
    near(warp(logits, top_p=0.75).softmax(-1), [1 / 3, 2 / 3, 0.0])
    near(warp(logits, top_p=0.7501).softmax(-1), [0.25, 0.5, 0.25])


def test_an_excluded_token_is_never_drawn():
    logits = torch.full((4000, 5), -torch.inf)
    logits[:, 1:3] = 0.0
    tokens, logps = sample(logits, generator(5))
    assert set(tokens.tolist()) == {1, 2}
    torch.testing.assert_close(logps, torch.full((4000,), math.log(0.5)))


def test_low_precision_logits_are_widened():
    assert warp(torch.zeros(3, dtype=torch.bfloat16)).dtype == torch.float32
    assert sample(torch.zeros(2, 3, dtype=torch.bfloat16), generator(), 0.0)[1].dtype == torch.float32


@pytest.mark.parametrize("row", [[0.0, math.nan], [0.0, math.inf], [-math.inf, -math.inf]])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_broken_logits_never_become_a_token(row, temperature):
    with pytest.raises(NotFinite):
        sample(torch.tensor([[0.0, 1.0], row]), generator(), temperature)


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}]
)
def test_settings_without_meaning_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        warp(torch.zeros(3), **wrong)


def sorted_nucleus(logits, top_p):
    """Top-p by sorting everything."""
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    probs = ordered.softmax(-1)
    enough = probs.cumsum(-1) - probs >= top_p
    return logits.masked_fill(enough.scatter(-1, order, enough), -torch.inf)


@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 5.0])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.9999])
def test_top_p_is_what_sorting_the_whole_vocabulary_gives(spread, top_p):
    logits = torch.randn(2, 40, 1000, dtype=torch.float64, generator=generator(2)) * spread
    logits[1] = (logits[1] * 2).round() / 2  # many ties
    assert warp(logits, top_p=top_p).equal(sorted_nucleus(logits, top_p))


def plain_draw(logits, uniform):
    """The choice from one cumulative sum over the whole vocabulary."""
    probs = logits.double().softmax(-1)
    ends = probs.cumsum(-1)
    total = ends[:, -1:]
    point = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(ends, point, right=True).squeeze(-1)


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 128, 129, 192, 1000, 4096, 5003])
@pytest.mark.parametrize("spread", [0.0, 1.0, 8.0])
def test_blocks_find_the_token_that_one_cumulative_sum_finds(size, spread):
    logits = torch.randn(300, size, dtype=torch.float64, generator=generator(size)) * spread
    logits[:50, size // 2 :] -= 200.0  # whole blocks of almost nothing
    logits[50:100, : size // 2] = -torch.inf
    uniform = torch.rand(300, dtype=torch.float64, generator=generator(1))
    uniform[:2] = torch.tensor([0.0, 1 - 2**-53])
    tokens, logps = draw(logits, uniform)
    wanted = plain_draw(logits, uniform)
    # Sums in another order differ in the last digits: a number may fall on either side of an end as near as that.
    ends = logits.softmax(-1).cumsum(-1).gather(1, torch.minimum(tokens, wanted)[:, None]).squeeze(-1)
    apart = tokens != wanted
    assert (ends - uniform)[apart].abs().lt(1e-15).all()
    assert int(apart.sum()) <= 1
    torch.testing.assert_close(
        logps, logits.log_softmax(-1).gather(-1, tokens[:, None]).squeeze(-1), rtol=1e-9, atol=1e-9
    )


def test_blocks_in_single_precision_follow_the_distribution():
    """Chi-square over a vocabulary of several blocks, with a tail of rare tokens."""
    draws, size = 40_000, 300
    logits = -0.02 * torch.arange(size, dtype=torch.float32)
    tokens, _ = sample(logits.expand(draws, -1), generator(9))
    expected = logits.double().softmax(-1) * draws
    statistic = ((torch.bincount(tokens, minlength=size) - expected).square() / expected).sum()
    assert torch.special.gammaincc(torch.tensor((size - 1) / 2, dtype=torch.float64), statistic / 2) > 0.01


@pytest.mark.parametrize("row", [[0.0, math.nan], [0.0, math.inf], [-math.inf, -math.inf]])
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.0}, {"top_p": 0.5}, {"top_k": 1}, {"temperature": 0.5}])
def test_picking_marks_broken_rows(row, settings):
    logits = torch.tensor([[0.0, 1.0], row]).repeat(1, 100)
    tokens, logps = pick(logits, torch.tensor([0.5, 0.5], dtype=torch.float64), **settings)
    assert logps.isnan().tolist() == [False, True]
    assert ((tokens >= 0) & (tokens < 200)).all()
