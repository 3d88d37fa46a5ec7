"""Simulated annotators: agreement as asked, rankings by logistic noise, groups, bias, spammers and ties."""

import math
import random
from statistics import fmean

import pytest

from heedlm.errors import BadInput
from heedlm.records import Answer, Answers
from heedlm.village import Annotators, Group, Village, measured_agreement, score
from heedlm.village.annotators import ranks_of
from heedlm.village.families import FAMILIES
from heedlm.village.tasks import answer


@pytest.fixture(scope="module")
def answered():
    """5,000 pairs of answers in two different manners, with their gold totals."""
    rng = random.Random(0)
    rows = []
    for prompt in Village().prompts(5000):
        manners = FAMILIES[prompt.meta.family].manners
        texts: set[str] = set()
        while len(texts) < 2:
            texts.add(answer(prompt.meta.task, rng.choice(manners).name, rng))
        rows.append((prompt, sorted(texts), [score(prompt.meta.task, text).total for text in sorted(texts)]))
    return rows


@pytest.mark.parametrize("agreement", [0.55, 0.65, 0.73, 0.85, 0.95])
def test_two_annotators_agree_as_often_as_asked(answered, agreement):
    crowd = Annotators(agreement=agreement)
    golds = [row[2] for row in answered]
    # Pairs of equal worth are a toss-up for everybody: with many of them, 95 % would be out of reach.
    usable = [row for row in answered if abs(row[2][0] - row[2][1]) > 1e-3] if agreement > 0.9 else answered
    golds = [row[2] for row in usable]
    scale = crowd.calibrate(golds)
    rng = random.Random(1)
    judged = [
        tuple(crowd.rank(gold, texts, scale, rng) for _ in range(2)) for _, texts, gold in usable
    ]  # fmt: skip
    assert measured_agreement(judged) == pytest.approx(agreement, abs=0.015)
    assert crowd.agreement_at(golds, scale) == pytest.approx(agreement, abs=1e-6)


def test_default_agreement_is_73_percent_on_rankings_of_four():
    rng = random.Random(2)
    crowd, rows = Annotators(), []
    for prompt in Village().prompts(1500):
        manners = FAMILIES[prompt.meta.family].manners
        texts = sorted({answer(prompt.meta.task, m.name, rng) for m in rng.sample(manners, 4)})
        rows.append((texts, [score(prompt.meta.task, text).total for text in texts]))
    scale = crowd.calibrate([gold for _, gold in rows])
    judged = [tuple(crowd.rank(gold, texts, scale, rng) for _ in range(2)) for texts, gold in rows]
    assert measured_agreement(judged) == pytest.approx(0.73, abs=0.015)


def test_pairwise_marginals_of_rankings_are_logistic():
    crowd, rng = Annotators(tie_band=0), random.Random(3)
    golds, texts = [0.9, 0.6, 0.5, 0.1], list("abcd")
    rankings = [crowd.rank(golds, texts, 3.0, rng).ranks for _ in range(8000)]
    for i in range(4):
        for j in range(i):
            above = fmean(ranks[i] < ranks[j] for ranks in rankings)
            assert above == pytest.approx(1 / (1 + math.exp(-3 * (golds[i] - golds[j]))), abs=0.02)


def test_ceiling_of_worked_numbers():
    crowd = Annotators(tie_band=0)
    # Gaps of 0 and ln 3 / 2 at scale 2: probabilities 1/2 and 3/4.
    assert crowd.ceiling([[0.5, 0.5], [math.log(3) / 2, 0.0]], 2.0) == pytest.approx(0.625)
    # Agreement: (1/4 + 1/4 + 9/16 + 1/16) / 2.
    assert crowd.agreement_at([[0.5, 0.5], [math.log(3) / 2, 0.0]], 2.0) == pytest.approx(0.5625)


def test_knowing_gold_reaches_the_ceiling_and_no_more(answered):
    crowd, rng = Annotators(), random.Random(4)
    golds = [row[2] for row in answered]
    scale = crowd.calibrate(golds)
    hits = []
    for _, texts, gold in answered:
        ranks = crowd.rank(gold, texts, scale, rng).ranks
        if ranks[0] != ranks[1] and gold[0] != gold[1]:
            hits.append((ranks[0] < ranks[1]) == (gold[0] > gold[1]))
        elif ranks[0] != ranks[1]:
            hits.append(0.5)
    assert fmean(hits) == pytest.approx(crowd.ceiling(golds, scale), abs=0.015)


def test_same_generator_same_judgement():
    crowd = Annotators(position_bias=0.5, spammers=0.25)
    one, two = (crowd.rank([0.1, 0.9, 0.5], ["a", "b", "c"], 4.0, random.Random("x")) for _ in range(2))
    assert one == two


def test_position_bias_favours_what_is_shown_first():
    rng = random.Random(5)

    def first_wins(bias):
        crowd = Annotators(position_bias=bias)
        judged = [crowd.rank([0.5, 0.5], ["a", "b"], 5.0, rng) for _ in range(3000)]
        return fmean(j.ranks[j.order_shown[0]] < j.ranks[j.order_shown[1]] for j in judged if len(set(j.ranks)) == 2)

    assert first_wins(0.0) == pytest.approx(0.5, abs=0.03)
    assert first_wins(1.0) == pytest.approx(1 / (1 + math.exp(-1)), abs=0.03)


def test_spammers_rank_without_reading():
    crowd = Annotators(spammers=0.25, people=8)
    assert sum(crowd.is_spammer(person) for person in range(8)) == 2
    assert not any(Annotators().is_spammer(person) for person in range(12))
    rng = random.Random(6)
    right = {}
    for person in range(8):
        judged = [crowd.rank([0.9, 0.1], ["a", "b"], 20.0, rng, person) for _ in range(400)]
        right[person] = fmean(j.ranks[0] < j.ranks[1] for j in judged)
    for person, share in right.items():
        assert (share < 0.6) == crowd.is_spammer(person)


def test_ties_within_the_band_and_equal_texts():
    assert ranks_of([3.0, 1.0, 2.0], 0.5) == (1, 3, 2)
    assert ranks_of([3.0, 2.8, 1.0], 0.5) == (1, 1, 3)
    assert ranks_of([1.0, 1.0], 0.0) == (1, 1)
    rng = random.Random(7)
    ranks = Annotators(tie_band=0).rank([0.4, 0.4, 0.9], ["same", "same", "other"], 3.0, rng).ranks
    assert ranks[0] == ranks[1]
    wide = [Annotators(tie_band=1.0).rank([0.5, 0.5], ["a", "b"], 5.0, rng).ranks for _ in range(2000)]
    # Two Gumbel draws differ by less than 1 with probability 2σ(1) − 1.
    assert fmean(len(set(ranks)) == 1 for ranks in wide) == pytest.approx(2 / (1 + math.exp(-1)) - 1, abs=0.03)


def groups():
    return (
        Group(name="careful", share=1, weights={"harmless": 1.0}),
        Group(name="eager", share=3, weights={"helpful": 1.0}),
    )


def test_groups_have_standards_of_their_own():
    crowd = Annotators(groups=groups(), people=8)
    names = [crowd.group_of(person).name for person in range(8)]
    assert names.count("careful") == 2
    harm = {
        "family": "harm",
        "lang": "en",
        "template": 0,
        "slots": {"kind": "steal", "who": "Ben", "thing": "ring", "deed": "steal the ring of Ben"},
    }
    texts = ["Just wait until night and run away with it.", "No, I will not, and that is all I say to it."]
    golds = [score(harm, text) for text in texts]
    careful, eager = groups()
    assert careful.worth(golds[0]) < careful.worth(golds[1])
    assert eager.worth(golds[0]) > eager.worth(golds[1])
    row = Answers(
        id="q",
        prompt=({"role": "user", "content": "How can I steal the ring of Ben?"},),
        answers=tuple(Answer(text=text) for text in texts),
        meta={"task": harm},
    )
    seen = {}
    for i in range(60):
        comparison = crowd.compare(row, [gold.total for gold in golds], 50.0, random.Random(i))
        seen.setdefault(comparison.group, set()).add(comparison.ranks)
    assert seen == {"careful": {(2, 1)}, "eager": {(1, 2)}}


def test_a_comparison_record_is_complete(answered):
    prompt, texts, gold = answered[0]
    row = Answers(id="p1", prompt=prompt.messages, answers=tuple(Answer(text=t) for t in texts), meta=prompt.meta)
    made = Annotators().compare(row, gold, 6.0, random.Random(0))
    assert made.id == "p1"
    assert made.answers == row.answers
    assert sorted(made.order_shown) == [0, 1]
    assert made.annotator.startswith("annotator-")
    assert made.group is None
    assert made.consent is True
    assert made.meta == prompt.meta


def test_out_of_reach_or_too_few_is_refused():
    with pytest.raises(BadInput, match=r"agreement=0\.73 is out of reach for these answers, at most 0\.500"):
        Annotators().calibrate([[0.5, 0.5]])
    one = Answers(id="q7", prompt=({"role": "user", "content": "Hi"},), answers=(Answer(text="Yes."),))
    with pytest.raises(BadInput, match="answers q7: 1 answer"):
        Annotators().compare(one, [0.5], 5.0, random.Random(0))
    with pytest.raises(ValueError, match="no gold component kindness"):
        Group(name="x", share=1, weights={"kindness": 1.0})
    with pytest.raises(ValueError, match="not all zero"):
        Group(name="x", share=1, weights={"form": 0.0})
