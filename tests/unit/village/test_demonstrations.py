"""Manners of answering: the commonest is mediocre, a rarer one the best, and greedy imitation stays with the first."""

from collections import Counter
from statistics import fmean

import pytest

from heedlm.village import Village, contrasts, manner_table, score
from heedlm.village.families import FAMILIES
from heedlm.village.measure import correlation
from heedlm.village.reading import size_of


@pytest.fixture(scope="module")
def table():
    return manner_table(25)


@pytest.fixture(scope="module")
def found():
    return contrasts(12)


@pytest.fixture(scope="module")
def demonstrations():
    return list(Village().demonstrations(4000))


def test_enough_families_templates_and_manners():
    assert len(FAMILIES) >= 10
    for lang in ("en", "zh"):
        templates = {template for family in FAMILIES.values() for template in family.prompts[lang]}
        assert len(templates) >= 60
    assert all(len(family.manners) >= 5 for family in FAMILIES.values())


def test_the_commonest_manner_is_listed_first_and_the_best_is_rare():
    for family in FAMILIES.values():
        shares = [manner.share for manner in family.manners]
        assert sum(shares) == pytest.approx(1)
        assert shares[0] == max(shares) >= 0.4
        assert max(shares[1:]) <= shares[0] / 2
        assert 0.15 <= shares[1] <= 0.20


def test_best_manner_is_best_and_commonest_mediocre(table):
    for family in FAMILIES.values():
        for lang in ("en", "zh"):
            gold = {row.manner: row.gold for row in table if (row.family, row.lang) == (family.name, lang)}
            others = [value for manner, value in gold.items() if manner != family.best]
            assert gold[family.best] >= 0.95
            assert max(others) <= 0.85
            assert min(others) <= 0.4
            assert gold[family.common] <= 0.68
    commonest = [row.gold for row in table if row.manner == FAMILIES[row.family].common]
    assert 0.42 <= fmean(commonest) <= 0.60


def test_greedy_imitation_is_no_better_than_the_commonest_manner(found):
    for row in found:
        assert row.greedy <= row.common + 0.15, row
        assert row.greedy <= row.best - 0.3, row
        assert row.sampled <= row.best - 0.2, row
        assert row.win_rate == 1
    # Neither sharpening nor flattening the imitator's distribution wins anything much.
    assert abs(fmean(row.greedy for row in found) - fmean(row.sampled for row in found)) < 0.12


def test_most_best_answers_are_as_long_as_common_ones(found):
    assert sum(row.matched for row in found) / (12 * len(found)) > 0.6
    assert all(row.win_rate_length_matched == 1 for row in found if row.matched)


def test_gold_hardly_follows_length(demonstrations):
    for languages in (("en", "zh"), ("en",), ("zh",)):
        pairs = [
            (score(demo.meta.task, demo.messages[-1].content).total, size_of(demo.messages[-1].content))
            for demo in demonstrations
            if demo.meta.lang in languages
        ]
        assert abs(correlation(pairs)) < 0.25


def test_manners_come_in_their_shares(demonstrations):
    kinds = Counter(
        "common" if demo.meta.task["manner"] == FAMILIES[demo.meta.family].common else
        "best" if demo.meta.task["manner"] == FAMILIES[demo.meta.family].best else "other"
        for demo in demonstrations
    )  # fmt: skip
    assert kinds["common"] / len(demonstrations) == pytest.approx(0.455, abs=0.02)
    assert kinds["best"] / len(demonstrations) == pytest.approx(0.18, abs=0.02)


def test_correlation_of_worked_numbers():
    assert correlation([(1, 2), (2, 4), (3, 6)]) == pytest.approx(1)
    assert correlation([(1, 1), (2, 0), (3, 1), (4, 0)]) == pytest.approx(-0.4472135955)
    assert correlation([(1, 5), (2, 5)]) == 0
