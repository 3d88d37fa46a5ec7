"""Agreement: published figures, two independent implementations, and the plain definitions, written out."""

import math
import random
from itertools import combinations

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats import inter_rater

from heedlm.errors import BadInput
from heedlm.feedback.agreement import measure, ranks_by, report
from heedlm.feedback.coefficients import concordance
from heedlm.feedback.judgements import Judgement, judgements_of
from heedlm.records import Answer, Comparison, Message, Rating, Thumb
from heedlm.village.annotators import Annotators, measured_agreement
from heedlm.village.annotators import Judgement as Simulated

NAN = math.nan
# Four observers, twelve units, 1 to 5: Krippendorff 2011, section C.
EXAMPLE = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]


def judged(table, kind="score", **more):
    """Judgements of a table [annotators, items] in which NaN is not judged."""
    return [
        Judgement(f"item {item}", f"annotator {who}", value if kind == "score" else f"label {value}", kind, **more)
        for who, line in enumerate(table)
        for item, value in enumerate(line)
        if not math.isnan(value)
    ]


def crowd(seed, items=200, overlap=3, **settings):
    """Rankings of four answers by simulated annotators, and what these know."""
    annotators, rng = Annotators(**settings), random.Random(seed)
    worths = [[rng.random() for _ in range(4)] for _ in range(items)]
    scale = annotators.calibrate(worths)
    found = []
    for item, worth in enumerate(worths):
        for person in rng.sample(range(annotators.people), overlap):
            said = annotators.rank(worth, list("abcd"), scale, rng, person)
            found.append(
                Judgement(str(item), said.annotator, said.ranks, "ranking", said.group, order_shown=said.order_shown)
            )
    return annotators, worths, found


# ------------------------------------------------------------------------------------------ published figures


def test_krippendorffs_example_of_2011():
    found = measure(judged(EXAMPLE)).alpha
    assert found["nominal"].estimate == pytest.approx(0.743421, abs=5e-7)
    assert found["ordinal"].estimate == pytest.approx(0.815388, abs=5e-7)
    assert found["interval"].estimate == pytest.approx(0.849107, abs=5e-7)
    assert all(value.low < value.estimate < value.high for value in found.values())


def test_cohens_kappa_of_a_confusion_of_two_annotators():
    # N22: [[40, 10], [12, 38]]
    one, two = np.repeat([0, 0, 1, 1], [40, 10, 12, 38]), np.repeat([0, 1, 0, 1], [40, 10, 12, 38])
    found = measure(judged([one, two], "label"))
    assert found.percent.estimate == pytest.approx(0.78, abs=1e-12)
    assert found.cohen == pytest.approx(0.56, abs=1e-12)
    assert found.compared == found.items == 100


def test_fleiss_example_of_1971():
    # Table 1 of Fleiss 1971 in the form of its worked example: 10 subjects, 14 raters, 5 categories, kappa .210.
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    lines = np.array([np.repeat(np.arange(5), counts) for counts in table]).T
    assert measure(judged(lines, "label")).fleiss.estimate == pytest.approx(0.20993, abs=5e-6)


# ------------------------------------------------------------------------------------------ independent implementations


def tables(values=5):
    cell = st.one_of(st.just(NAN), st.integers(1, values).map(float))
    shape = st.tuples(st.integers(2, 5), st.integers(2, 12))
    return shape.flatmap(
        lambda size: st.lists(
            st.lists(cell, min_size=size[1], max_size=size[1]), min_size=size[0], max_size=size[0]
        ).map(np.array)
    )


@settings(max_examples=60, deadline=None)
@given(table=tables())
def test_alpha_equals_the_krippendorff_package(table):
    found = measure(judged(table), resamples=2)
    pairable = table[:, (~np.isnan(table)).sum(0) > 1]
    if len(np.unique(pairable[~np.isnan(pairable)])) < 2:
        assert all(value is None for value in found.alpha.values())
        return
    for metric, value in found.alpha.items():
        expected = krippendorff.alpha(reliability_data=pairable, level_of_measurement=metric)
        if value is not None:  # the two redraws may have been of one value only
            assert value.estimate == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), people=st.integers(2, 6), items=st.integers(3, 12))
def test_kappas_equal_statsmodels(data, people, items):
    line = st.lists(st.integers(0, 2), min_size=items, max_size=items)
    table = np.array(data.draw(st.lists(line, min_size=people, max_size=people)))
    if len(np.unique(table)) < 2:
        return
    found = measure(judged(table, "label"), resamples=300)
    counts, _ = inter_rater.aggregate_raters(table.T)
    assert found.fleiss.estimate == pytest.approx(inter_rater.fleiss_kappa(counts), abs=1e-12)
    kappas = []
    for one, two in combinations(range(people), 2):
        confusion = np.zeros((3, 3))
        np.add.at(confusion, (table[one], table[two]), 1)
        if not (len(set(table[one])) == 1 and set(table[one]) == set(table[two])):
            kappas.append(inter_rater.cohens_kappa(confusion, return_results=False))
    assert found.cohen == pytest.approx(np.mean(kappas), abs=1e-12)


def test_rankings_are_pairs_of_answers_counted_in_both_directions():
    _, _, said = crowd(1, items=40)
    people = sorted({judgement.annotator for judgement in said})
    units = {(str(item), i, j): place for place, (item, i, j) in enumerate(
        (item, i, j) for item in range(40) for i in range(4) for j in range(4) if i != j)}  # fmt: skip
    table = np.full((len(people), len(units)), NAN)
    for judgement in said:
        ranks = judgement.value
        for i, j in ((i, j) for i in range(4) for j in range(4) if i != j):
            place = units[judgement.item, i, j]
            table[people.index(judgement.annotator), place] = np.sign(ranks[j] - ranks[i])
    found = measure(said)
    for metric in ("nominal", "ordinal"):
        expected = krippendorff.alpha(reliability_data=table, level_of_measurement=metric)
        assert found.alpha[metric].estimate == pytest.approx(expected, abs=1e-12)


def test_agreement_does_not_depend_on_which_answer_stands_first():
    _, _, said = crowd(2, items=60)
    # Every ranking with its best answer first for the first annotator of the item: a systematic order.
    order = {}
    for judgement in said:
        order.setdefault(judgement.item, np.argsort(judgement.value, kind="stable"))
    turned = [Judgement(j.item, j.annotator, tuple(np.array(j.value)[order[j.item]].tolist()), "ranking") for j in said]
    first, second = measure(said), measure(turned)
    assert first.fleiss == second.fleiss
    assert first.alpha == second.alpha
    assert first.cohen == pytest.approx(second.cohen, abs=1e-12)


# ------------------------------------------------------------------------------------------ the plain definition


def plain(judgements):
    """Percent agreement without and with ties, by the words of the definition."""
    same = both = same_ties = pairs = 0
    by_item = {}
    for judgement in judgements:
        by_item.setdefault(judgement.item, {})[judgement.annotator] = judgement.value
    for said in by_item.values():
        for one, two in combinations(said.values(), 2):
            for i, j in combinations(range(len(one)), 2):
                a, b = np.sign(one[i] - one[j]), np.sign(two[i] - two[j])
                pairs += 1
                same_ties += a == b
                both += bool(a) and bool(b)
                same += bool(a) and a == b
    return same / both, same_ties / pairs


def test_percent_agreement_leaves_ties_out_and_says_it_with_them():
    _, _, said = crowd(3, tie_band=1.0)
    found = measure(said)
    without, with_ties = plain(said)
    assert found.percent.estimate == pytest.approx(without, abs=1e-12)
    assert found.percent_with_ties.estimate == pytest.approx(with_ties, abs=1e-12)
    assert without - with_ties > 0.1


def test_it_is_the_agreement_that_the_simulated_annotators_were_tuned_to():
    _, _, said = crowd(4, items=1500)
    found = measure(said).percent
    assert found.low < 0.73 < found.high
    by_item = {}
    for judgement in said:
        by_item.setdefault(judgement.item, []).append(Simulated(judgement.value, "", None, ()))
    two = [pair for some in by_item.values() for pair in combinations(some, 2)]
    assert found.estimate == pytest.approx(measured_agreement(two), abs=1e-12)


def test_intervals_are_seeded_and_do_not_depend_on_the_order_of_items():
    _, _, said = crowd(5, items=50)
    shuffled = random.Random(0).sample(said, len(said))
    assert measure(said) == measure(said, seed=0)
    assert measure(shuffled).alpha["nominal"] == pytest.approx(measure(said).alpha["nominal"])
    assert measure(said, seed=1).percent != measure(said).percent


def test_intervals_cover_the_truth_and_take_items_whole():
    # 100 draws of 60 items whose true percentage is known; each item judged by 2 people, twelve answer pairs repeated.
    truth, hits, widths = 0.7, 0, []
    rng = random.Random(6)
    for _ in range(100):
        said = []
        for item in range(60):
            agree = rng.random() < truth
            # All pairs of an item agree or none: 6 pairs are worth one.
            said += [
                Judgement(str(item), "a", (1, 2, 3, 4), "ranking"),
                Judgement(str(item), "b", (1, 2, 3, 4) if agree else (4, 3, 2, 1), "ranking"),
            ]
        found = measure(said, resamples=200).percent
        hits += found.low <= truth <= found.high
        widths.append(found.high - found.low)
    assert 88 <= hits <= 100
    assert np.mean(widths) == pytest.approx(2 * 1.96 * math.sqrt(0.7 * 0.3 / 60), rel=0.15)


def test_kinds_of_items_are_drawn_as_items_are():
    # The redraws of 30 items of four kinds have the variance of the plain bootstrap.
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, 2, 30), rng.integers(0, 2, 30)
    found = measure(judged([one, two], "label"), resamples=4000).percent
    draws = (one == two)[rng.integers(0, 30, (4000, 30))].mean(1)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])), abs=0.04)


# ------------------------------------------------------------------------------------------ edges


def test_nothing_in_common_is_undefined_and_not_zero():
    found = measure([Judgement("1", "a", "x"), Judgement("2", "b", "y")])
    assert (found.percent, found.cohen, found.fleiss, found.alpha) == (None, None, None, {"nominal": None})
    assert (found.items, found.compared) == (0, 0)


def test_one_value_only_has_a_percentage_and_no_kappa():
    found = measure([Judgement(str(i), who, "up") for i in range(9) for who in "ab"])
    assert found.percent.estimate == 1
    assert (found.cohen, found.fleiss, found.alpha["nominal"]) == (None, None, None)


def test_a_corrected_judgement_replaces_the_first():
    said = [Judgement("1", "a", "x"), Judgement("1", "b", "y"), Judgement("1", "b", "x")]
    found = measure(said)
    assert (found.judgements, found.percent.estimate) == (2, 1)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([Judgement("q", "a", (1, 2), "ranking"), Judgement("q", "b", (1, 2, 3), "ranking")],
         "item 'q' has a ranking of 2 answers by 'a' and one of 3"),
        ([Judgement("q", "a", 3.0, "score"), Judgement("q", "b", "good", "score")], "'b' says 'good' of item 'q'"),
        ([Judgement("q", "a", 3.0, "score"), Judgement("q", "b", NAN, "score")], "which is no score"),
        ([Judgement("q", "a", "x"), Judgement("q", "b", (1, 2), "ranking")], "compared apart"),
        ([Judgement(str(i), "a", float(i), "score") for i in range(102)], "102 different scores, at most 101"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_one_line(said, words):
    with pytest.raises(BadInput, match=words):
        measure(said)


# ------------------------------------------------------------------------------------------ breakdown


def test_by_project_group_and_kind():
    _, _, one = crowd(
        7, items=80, groups=({"name": "blunt", "share": 1, "weights": {"honest": 1}},
                             {"name": "kind", "share": 1, "weights": {"harmless": 1}}))  # fmt: skip
    said = [Judgement(j.item, j.annotator, j.value, "ranking", j.group, project="poems") for j in one]
    said += judged(EXAMPLE, project="sums")
    found = report(said)
    assert set(found.overall) == {"ranking", "score"}
    assert {name: list(kinds) for name, kinds in found.projects.items()} == {"poems": ["ranking"], "sums": ["score"]}
    assert found.projects["sums"]["score"] == found.overall["score"] == measure(judged(EXAMPLE))
    assert set(found.groups) == {"blunt", "kind"}
    ((first, second, line),) = found.between_groups["ranking"]
    assert (first, second) == ("blunt", "kind")
    within = sum(kinds["ranking"].compared for kinds in found.groups.values())
    assert line.compared + within == found.overall["ranking"].compared


def test_each_annotator_with_the_others_gold_and_a_model():
    _, worths, said = crowd(8, items=150, people=6)
    scores = {str(item): worth for item, worth in enumerate(worths)}
    gold = {str(item): ranks_by(worths[item]) for item in range(40)}
    found = report(said, gold, scores)
    person = found.people[0]
    mine = {j.item: j.value for j in said if j.annotator == person.annotator}
    others = [j for j in said if j.annotator != person.annotator and j.item in mine]
    both = [(mine[j.item], j.value) for j in others]
    assert person.judgements == len(mine)
    assert person.others.compared == 6 * len(both)
    assert person.others.share == pytest.approx(share_of(both), abs=1e-12)
    assert person.gold.share == pytest.approx(
        share_of([(mine[item], gold[item]) for item in mine if item in gold]), abs=1e-12
    )
    assert person.model.share == pytest.approx(
        share_of([(mine[item], ranks_by(scores[item])) for item in mine]), abs=1e-12
    )
    assert person.gold.share_error > 0


def share_of(both):
    signs = [
        (np.sign(one[i] - one[j]), np.sign(two[i] - two[j])) for one, two in both for i, j in combinations(range(4), 2)
    ]
    decided = [a == b for a, b in signs if a and b]
    return sum(decided) / len(decided)


def test_thumbs_and_scores_against_a_model_by_order():
    said = [Judgement(str(i), "a", "up" if i > 2 else "down") for i in range(6)]
    found = report(said, scores={str(i): float(i) for i in range(6)} | {"2": 4.5})
    # Nine pairs of a thumb up with one down: item 2 scores above items 3 and 4.
    assert found.people[0].model.share == pytest.approx(7 / 9, abs=1e-12)
    assert found.people[0].model.compared == 9


def test_concordance_is_the_share_of_pairs_ordered_alike():
    rng = np.random.default_rng(1)
    levels, scores = rng.integers(1, 5, 40).tolist(), rng.integers(0, 9, 40).astype(float).tolist()
    wins, total = 0.0, 0
    for i, j in combinations(range(40), 2):
        if levels[i] != levels[j]:
            total += 1
            wins += 0.5 if scores[i] == scores[j] else float((levels[i] < levels[j]) == (scores[i] < scores[j]))
    assert concordance(levels, scores) == (pytest.approx(wins / total, abs=1e-12), total)


def test_an_annotator_called_gold_is_not_mistaken_for_it():
    said = [Judgement(str(i), who, "x") for i in range(4) for who in ("gold", "b")]
    found = report(said, gold={"0": "x", "1": "y"})
    assert [(person.annotator, person.gold.share) for person in found.people] == [("gold", 0.5), ("b", 0.5)]


def test_the_most_disputed_items_come_first_with_what_was_said():
    said = [Judgement("calm", who, "x") for who in "abc"]
    said += [Judgement("split", who, value) for who, value in zip("abc", "xxy", strict=True)]
    said += [Judgement("torn", who, value) for who, value in zip("abc", "xyz", strict=True)]
    found = report(said).disagreements
    assert [(item.item, item.share) for item in found] == [("torn", 1.0), ("split", pytest.approx(2 / 3))]
    assert found[0].said == {"a": "x", "b": "y", "c": "z"}
    assert len(report(said, worst=1).disagreements) == 1


# ------------------------------------------------------------------------------------------ from rows


def ask(text):
    return (Message(role="user", content=text),)


def test_rows_become_judgements_whatever_the_order_of_answers():
    cat, dog = Answer(text="A cat."), Answer(text="A big dog.")
    rows = [
        Comparison(prompt=ask("?"), answers=(cat, dog), ranks=(1, 2), annotator="a", order_shown=(1, 0)),
        Comparison(prompt=ask("?"), answers=(dog, cat), ranks=(2, 1), annotator="b", group="g"),
        Comparison(prompt=ask("?"), answers=(dog, cat), ranks=(2, 1)),
        Rating(prompt=ask("?"), answer=cat, score=6, annotator="a"),
        Thumb(prompt=ask("?"), answer=cat, up=False, annotator="a"),
    ]
    first, second, score, thumb = judgements_of(rows, project="p")
    assert first.item == second.item
    assert first.value == second.value == (2, 1)  # by text: the dog's answer sorts first
    assert (first.order_shown, first.lengths) == ((0, 1), (10, 6))
    assert (second.group, second.project) == ("g", "p")
    assert (score.kind, score.value, thumb.kind, thumb.value) == ("score", 6.0, "label", "down")
    assert score.item == thumb.item != first.item


def test_the_same_answers_by_another_criterion_are_another_item():
    answers = (Answer(text="x"), Answer(text="y"))
    rows = [
        Comparison(prompt=ask("?"), answers=answers, ranks=(1, 2), annotator=who, criterion=criterion)
        for who, criterion in (("a", "helpful"), ("b", "harmless"))
    ]
    assert measure(judgements_of(rows)).items == 0
