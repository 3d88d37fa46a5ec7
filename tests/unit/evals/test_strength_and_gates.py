"""Strength of preferences (N7), and the advice that a reward model's measurements lead to."""

import dataclasses

import pytest

from heedlm.errors import HeedError
from heedlm.evals.bootstrap import Interval
from heedlm.evals.gates import Gates, advice
from heedlm.evals.reward_model import held_out_accuracy
from heedlm.evals.strength import Strength, by_strength, describe, strength
from heedlm.records import Answer, Comparison, Message, Meta

D = [0.5, -0.2, 0.1, 0.4, -0.3, 0.6, 0.2, -0.1, 0.3, 0.5]


def test_n7(near):
    found = strength(D)
    near([found.mean, found.std, found.probability], [0.2, 0.3, 0.549834])
    with pytest.raises(HeedError, match="no model scored the pair"):
        strength([])


def test_groups_go_from_weak_to_strong_and_share_out_all():
    strengths = [Strength(mean, 0.1) for mean in (0.4, -1.0, 0.2, 2.0, -0.5, 0.3, 0.1)]
    groups = by_strength(strengths, 3)
    assert groups == [[1, 4], [6, 2], [5, 0, 3]]
    assert describe(strengths, groups[0]).negative == 1
    assert (describe(strengths, groups[2]).low, describe(strengths, groups[2]).high) == (0.3, 2.0)
    with pytest.raises(HeedError, match="8 groups of 7 preferences"):
        by_strength(strengths, 8)


def measured(right, longer=False, criterion="overall", count=200):
    """A reward model that orders a share of pairs as people do; with `longer` it follows length alone."""
    rows, scores = [], []
    for place in range(count):
        texts = ("yes " * (5 if place % 2 else 1), "no " * (1 if place % 2 else 5))
        rows.append(
            Comparison(
                prompt=(Message(role="user", content=f"question {place}"),),
                answers=tuple(Answer(text=text) for text in texts),
                ranks=(1, 2),
                criterion=criterion if place % 4 else "honest",
                meta=Meta(source=f"s{place % 2}"),
            )
        )
        margin = (1.0 if place % 2 else -1.0) if longer else (1.0 if place % 10 < 10 * right else -1.0)
        scores.append([margin * (1 + place / count), 0.0])
    return held_out_accuracy(rows, scores)


def test_a_good_model_passes_and_the_line_says_what_is_not_known():
    found = advice(measured(0.9), Gates(ece=1.0))
    assert found.start
    assert found.line.startswith("PPO may start: 90.0% [")
    assert found.line.endswith("but accuracy on the policy's own answers was not measured.")
    known = advice(measured(0.9), Gates(ece=1.0), Interval(0.7, 0.6, 0.8, 100))
    assert known.line.endswith("70.0% [60.0%, 80.0%] of the policy's own.")
    assert known.unknown == []


def test_each_gate_stops_it_with_its_reason():
    assert "may be below 55%" in advice(measured(0.5), Gates()).line
    own = advice(measured(0.9), Gates(ece=1.0), Interval(0.52, 0.45, 0.6, 100))
    assert own.against == [
        "on the policy's own answers 52.0% [45.0%, 60.0%] may be no better than 50%",
    ]
    long = advice(measured(0.9, longer=True), Gates(accuracy=0, sure=0, ece=1.0))
    assert any("scores follow length (correlation 0.9" in reason for reason in long.against)
    assert any("source s0: 0% of 100 pairs" in reason for reason in long.against)
    assert any("more words: 0%" in reason for reason in long.against)
    # Every fourth pair, of even number, is about honesty, and the longer answer is wrong there each time.
    assert "criterion honest: 0% of 50 pairs" in long.against
    assert "calibration error" in advice(measured(0.9), Gates(ece=0.0)).line
    assert "where it is surest" in advice(measured(0.6), Gates(accuracy=0, sure=0.95, part_pairs=10)).line
    assert not advice(measured(0.5), Gates()).start


def test_accuracy_is_told_by_criterion_too(near):
    found = measured(0.9, criterion="harmless")
    assert list(found.by_criterion) == ["honest", "harmless"]
    assert sum(n for n, _ in found.by_criterion.values()) == 200
    assert found.to_dict()["by_criterion"]["honest"]["n"] == 50
    assert found.ece_refit <= found.ece + 0.05
    assert dataclasses.replace(found, ece=0.0).ece == 0
