"""Biases and careless annotators: planted ones are found, honest ones are left alone, tests equal scipy's."""

import random
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from heedlm.feedback.agreement import ranks_by
from heedlm.feedback.judgements import Judgement
from heedlm.feedback.quality import Thresholds, exact_test, length_bias, position_bias, suspects, wilson
from heedlm.village.annotators import Annotators


def crowd(seed, items=300, K=4, **settings):
    """Rankings by three of twelve simulated annotators an item; the annotators, gold ranks and judgements."""
    annotators, rng = Annotators(**settings), random.Random(seed)
    worths = [[rng.random() for _ in range(K)] for _ in range(items)]
    scale = annotators.calibrate(worths)
    found = []
    for item, worth in enumerate(worths):
        texts = [f"{place}" * rng.randint(1, 50) for place in range(K)]
        for person in rng.sample(range(annotators.people), 3):
            said = annotators.rank(worth, texts, scale, rng, person)
            found.append(
                Judgement(
                    str(item), said.annotator, said.ranks, "ranking",
                    order_shown=said.order_shown, lengths=tuple(map(len, texts)), seconds=rng.lognormvariate(3.4, 0.5),
                )
            )  # fmt: skip
    return annotators, {str(item): ranks_by(worth) for item, worth in enumerate(worths)}, found


def as_done_by(name, said, value):
    """The same judgements, those of one annotator replaced."""
    return [value(j) if j.annotator == name else j for j in said]


# ------------------------------------------------------------------------------------------ tests


@pytest.mark.parametrize(("hits", "n", "p"), [(260, 883, 0.25), (3, 10, 0.5), (10, 10, 0.5), (0, 7, 0.2), (0, 0, 0.5)])
def test_the_exact_test_is_the_binomial_test_where_chances_are_equal(hits, n, p):
    expected = stats.binomtest(hits, n, p).pvalue if n else 1.0
    assert exact_test(hits, {p: n} if n else {}) == pytest.approx(expected, rel=1e-6)


def test_the_exact_test_of_unequal_chances_equals_all_outcomes_counted():
    chances = [0.5] * 3 + [0.25] * 4
    likely = np.zeros(8)
    for outcome in np.ndindex(*[2] * 7):
        likely[sum(outcome)] += np.prod([p if hit else 1 - p for hit, p in zip(outcome, chances, strict=True)])
    for hits in range(8):
        expected = likely[likely <= likely[hits] * (1 + 1e-7)].sum()
        assert exact_test(hits, {0.5: 3, 0.25: 4}) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("hits", "n"), [(7, 20), (0, 12), (12, 12)])
def test_wilson_equals_scipy(hits, n):
    expected = stats.binomtest(hits, n).proportion_ci(0.95, "wilson")
    found = wilson(hits, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


# ------------------------------------------------------------------------------------------ biases


def test_a_planted_position_bias_is_found_and_none_where_there_is_none():
    _, _, plain = crowd(1)
    _, _, biased = crowd(1, position_bias=1.5)
    honest, found = position_bias(plain), position_bias(biased)
    assert honest.expected == found.expected == 0.25
    assert honest.share.low < 0.25 < honest.share.high
    assert honest.p_value > 0.01
    assert found.share.low > 0.3
    assert found.p_value < 1e-6
    assert position_bias(biased, -1).share.high < 0.25


def test_position_bias_by_hand():
    said = [
        Judgement("1", "a", (1, 2), "ranking", order_shown=(0, 1)),  # best shown first
        Judgement("2", "a", (1, 2), "ranking", order_shown=(1, 0)),  # best shown last
        Judgement("3", "a", (3, 1, 2), "ranking", order_shown=(1, 0, 2)),  # first
        Judgement("4", "a", (1, 1, 2), "ranking", order_shown=(0, 1, 2)),  # two best: left out
        Judgement("5", "a", (2, 1), "ranking"),  # order not known
        Judgement("6", "a", "up"),
    ]
    found = position_bias(said)
    assert (found.share.estimate, found.n) == (2 / 3, 3)
    assert found.expected == pytest.approx((0.5 + 0.5 + 1 / 3) / 3)
    assert position_bias(said[3:]) is None


def test_a_planted_length_bias_is_found_and_none_where_there_is_none():
    _, _, said = crowd(2)
    honest = length_bias(said)
    assert honest.share.low < 0.5 < honest.share.high
    rng = random.Random(0)
    biased = [
        Judgement(j.item, j.annotator, ranks_by([size + rng.gauss(0, 20) for size in j.lengths]), "ranking",
                  lengths=j.lengths)
        for j in said
    ]  # fmt: skip
    found = length_bias(biased)
    assert found.share.low > 0.6
    assert found.p_value < 1e-6
    plain = [
        (j.value[a] < j.value[b]) == (j.lengths[a] > j.lengths[b])
        for j in biased
        for a, b in combinations(range(4), 2)
        if j.value[a] != j.value[b] and j.lengths[a] != j.lengths[b]
    ]
    assert (found.share.estimate, found.n) == (pytest.approx(sum(plain) / len(plain)), len(plain))


def test_one_item_proves_no_length_bias_however_many_judged_it():
    said = [Judgement("1", str(who), (1, 2, 3, 4), "ranking", lengths=(9, 8, 7, 6)) for who in range(50)]
    found = length_bias(said)
    assert found.n == 300
    assert found.p_value > 0.1
    assert length_bias([Judgement("1", "a", (1, 1), "ranking", lengths=(1, 2))]) is None


# ------------------------------------------------------------------------------------------ people


@pytest.mark.parametrize("seed", range(4))
def test_simulated_spammers_are_found_and_nobody_else(seed):
    annotators, _, said = crowd(seed, items=500, spammers=0.2)
    spammers = [f"annotator-{who:02d}" for who in range(annotators.people) if annotators.is_spammer(who)]
    found = suspects(said)
    assert [one.annotator for one in found] == spammers == ["annotator-04", "annotator-09"]
    assert all(reason.startswith("at chance: kappa ") for one in found for reason in one.reasons)


@pytest.mark.parametrize("seed", range(10, 16))
def test_honest_annotators_are_left_alone(seed):
    _, gold, said = crowd(seed, groups=({"name": "blunt", "share": 1, "weights": {"honest": 1}},))
    assert suspects(said, gold) == []


def test_who_clicks_the_first_answer_is_found_with_the_reason():
    _, _, said = crowd(3)

    def first(judgement):
        ranks = tuple(1 if place == judgement.order_shown[0] else 2 + place for place in range(4))
        return Judgement(judgement.item, judgement.annotator, ranks, "ranking", order_shown=judgement.order_shown)

    (found,) = suspects(as_done_by("annotator-05", said, first))
    assert found.annotator == "annotator-05"
    n = sum(j.annotator == "annotator-05" for j in said)
    assert found.reasons[0].startswith(
        f"by place: chose the answer shown first in {n} of {n} judgements, chance gives {n / 4:.0f} (p < 1e-12)"
    )


def test_who_takes_a_second_each_is_found():
    _, _, said = crowd(4)
    (found,) = suspects(
        as_done_by("annotator-02", said, lambda j: Judgement(j.item, j.annotator, j.value, "ranking", seconds=1.5))
    )
    assert (found.annotator, len(found.reasons)) == ("annotator-02", 1)
    assert found.reasons[0].startswith("too fast: 1.5 seconds a judgement (median), the others take ")


def test_who_always_says_the_same_is_found_unless_everybody_does():
    rng = random.Random(5)
    said = [Judgement(str(i), who, rng.choice(["up", "down"])) for i in range(60) for who in "abc"]
    said += [Judgement(str(i), "d", "up") for i in range(60)]
    reasons = {one.annotator: one.reasons for one in suspects(said)}
    assert list(reasons) == ["d"]
    assert reasons["d"][0].startswith("constant: up in 60 of 60 judgements, the others say it in ")
    assert suspects([Judgement(str(i), who, "up") for i in range(60) for who in "abcd"]) == []


def test_who_calls_everything_a_tie_is_told_in_words():
    _, _, said = crowd(6)
    found = suspects(
        as_done_by("annotator-01", said, lambda j: Judgement(j.item, j.annotator, (1, 1, 1, 1), "ranking"))
    )
    reasons = {one.annotator: one.reasons for one in found}
    assert reasons["annotator-01"][0].startswith("constant: all answers equal in ")
    assert list(reasons) == ["annotator-01"]


def test_wrong_on_gold_is_found_though_nobody_else_judged_the_items():
    rng = random.Random(7)
    gold = {f"gold-{i}": rng.choice(["up", "down"]) for i in range(80)}
    other = {"up": "down", "down": "up"}
    said = [Judgement(item, "good", value if rng.random() < 0.9 else other[value]) for item, value in gold.items()]
    said += [Judgement(item + " ", "free", value) for item, value in gold.items()]
    said += [Judgement(item, "bad", rng.choice(["up", "down"])) for item in list(gold)[:80]]
    reasons = {one.annotator: one.reasons for one in suspects(said, gold, Thresholds(gold=0.75))}
    assert list(reasons) == ["bad"]
    assert any(reason.startswith("wrong on gold: right in ") for reason in reasons["bad"])


def test_few_judgements_make_nobody_suspect():
    said = [Judgement(str(i), "a", "up", seconds=0.1) for i in range(19)]
    said += [Judgement(str(i), who, "down" if i % 2 else "up", seconds=9.0) for i in range(19) for who in "bc"]
    assert suspects(said) == []
    assert [one.annotator for one in suspects(said, thresholds=Thresholds(least=10))] == ["a"]
