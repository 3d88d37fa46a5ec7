"""Held-out reward-model accuracy over comparisons with several answers, ties and repeated prompts."""

from __future__ import annotations

import json
import random

import pytest

from heedlm.errors import HeedError
from heedlm.evals.calibration import sigmoid
from heedlm.evals.reward_model import (
    compare_accuracy,
    gap_to_ceiling,
    held_out_accuracy,
    length_scores,
    noise_ceiling,
    pairs,
)
from heedlm.records import Answer, Comparison, Message, Meta


def comparison(prompt: str, texts: list[str], ranks: list[int], source: str | None = None) -> Comparison:
    return Comparison(
        prompt=(Message(role="user", content=prompt),),
        answers=tuple(Answer(text=text) for text in texts),
        ranks=tuple(ranks),
        meta=Meta(source=source),
    )


def test_every_preference_is_a_pair_and_ties_are_none() -> None:
    rows = [comparison("p", ["one two", "three", "four"], [1, 2, 2])]
    found = pairs(rows, [[0.5, 0.25, 1.0]])
    assert [(p.better, p.worse, p.margin, p.length_difference) for p in found] == [
        (0, 1, 0.25, 1),
        (0, 2, -0.5, 1),
    ]
    result = held_out_accuracy(rows, [[0.5, 0.25, 1.0]])
    assert (result.accuracy.estimate, result.accuracy.n, result.prompts, result.ties) == (0.5, 2, 1, 1)


def test_six_pairs_of_one_ranking_are_not_six_votes() -> None:
    generator = random.Random(2)
    rows, scores = [], []
    for number in range(40):
        right = generator.random() < 0.7
        rows.append(comparison(f"p{number}", ["a", "b", "c", "d"], [1, 2, 3, 4]))
        scores.append([4.0, 3.0, 2.0, 1.0] if right else [1.0, 2.0, 3.0, 4.0])
    result = held_out_accuracy(rows, scores).accuracy
    assert result.n == 240
    assert result.high - result.low > 0.2  # ± 1.96·√(.7·.3/40) is .28 wide; over pairs it would be .12


def test_two_rows_about_one_prompt_stay_together() -> None:
    rows = [comparison("same", ["a", "b"], [1, 2]), comparison("same", ["c", "d"], [2, 1])]
    result = held_out_accuracy(rows, [[1.0, 0.0], [1.0, 0.0]])
    assert result.prompts == 1
    assert result.accuracy.low == result.accuracy.high == 0.5


def test_results_are_json_and_split_by_source() -> None:
    rows = [comparison("p", ["long answer here", "b"], [1, 2], "hh"), comparison("q", ["a", "b"], [1, 2])]
    result = json.loads(json.dumps(held_out_accuracy(rows, [[1.0, 0.0], [0.0, 1.0]]).to_dict()))
    assert result["accuracy"]["estimate"] == 0.5
    assert result["by_source"] == {"hh": {"n": 1, "accuracy": 1.0}, "unknown": {"n": 1, "accuracy": 0.0}}
    assert sum(each["n"] for each in result["by_length"]) == 2
    assert sum(each["n"] for each in result["by_margin"]) == 2


def test_gap_to_ceiling_of_a_half_blind_scorer() -> None:
    """Labels drawn by σ(gold difference); a scorer that sees gold every other time lacks half."""
    generator = random.Random(7)
    rows, gold, scores, chances = [], [], [], []
    for number in range(3000):
        a, b = generator.gauss(0, 2), generator.gauss(0, 2)
        p = sigmoid(a - b)
        chances.append(p)
        rows.append(comparison(f"p{number}", ["x", "y"], [1, 2] if generator.random() < p else [2, 1]))
        gold.append([a, b])
        scores.append([a, b] if number % 2 else [generator.random(), generator.random()])
    best = held_out_accuracy(rows, gold).accuracy
    assert best.low <= noise_ceiling(chances) <= best.high
    gap = gap_to_ceiling(rows, scores, gold)
    assert gap.estimate == pytest.approx((best.estimate - 0.5) / 2, abs=0.03)
    assert gap.p_value < 0.01
    assert compare_accuracy(rows, gold, gold).estimate == 0.0


def test_longer_answer_baseline() -> None:
    rows = [comparison("p", ["a b c", "a"], [1, 2]), comparison("q", ["a b c", "a"], [2, 1])]
    assert length_scores(rows) == [[3.0, 1.0], [3.0, 1.0]]
    assert held_out_accuracy(rows, length_scores(rows)).accuracy.estimate == 0.5


def test_refusals() -> None:
    row = comparison("p", ["a", "b"], [1, 1])
    with pytest.raises(HeedError, match="no preference"):
        held_out_accuracy([row], [[1.0, 0.0]])
    with pytest.raises(HeedError, match="2 answers, 3 scores"):
        pairs([row], [[1.0, 0.0, 0.0]])
