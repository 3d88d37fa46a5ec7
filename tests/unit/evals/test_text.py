"""Text measures on English and Chinese, and the symptom detectors on planted and clean answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedlm.errors import HeedError
from heedlm.evals.text import compare_symptoms, describe, distinct_n, repetition, symptoms, units


def test_units_split_words_characters_and_marks() -> None:
    assert units("Don't go, 小猫 x2!") == ["don't", "go", ",", "小", "猫", "x2", "!"]


def test_distinct_n_counts_over_all_texts() -> None:
    """ "a b a b" has bigrams ab, ba, ab; "a b" adds ab: 2 different of 4."""
    assert distinct_n(["a b a b", "a b"], 2) == pytest.approx(2 / 4)
    assert distinct_n(["a b a b", "a b"], 1) == pytest.approx(2 / 6)
    assert distinct_n(["one"], 2) == 0.0


def test_repetition_of_a_loop_and_of_plain_text() -> None:
    """ "sorry ," five times is 10 units, 7 four-grams, 2 different."""
    assert repetition("sorry, " * 5) == pytest.approx(1 - 2 / 7)
    assert repetition("the frog found a red kite near the mill") == 0.0
    assert repetition("对不起" * 6) == pytest.approx(1 - 3 / 15)
    assert repetition("!!!!!!!!") == pytest.approx(1 - 1 / 5)


@given(st.text(max_size=200))
def test_measures_stay_in_range_on_any_text(text: str) -> None:
    assert 0 <= repetition(text) <= 1
    assert 0 <= distinct_n([text], 1) <= 1
    assert all(value >= 0 for value in symptoms(text).values())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Here you go:\n1. flour\n2. eggs\n3. milk", "list"),
        ("买这些：\n一、米\n二、盐", "list"),
        ("It has a mill and a pond. Overall, it is a fine place.", "closing"),
        ("这里有磨坊。总之，是个好地方。", "closing"),
        ("As an AI language model, I have no garden.", "as_an_ai"),
        ("作为一个人工智能，我没有花园。", "as_an_ai"),
        ("I cannot help with that.", "refusal"),
        ("我不能帮你做这件事。", "refusal"),
        ("Tell me more, please?", "please"),
        ("She lost her dog, what do I do???", "questions"),
    ],
)
def test_planted_symptoms_are_found(text: str, name: str) -> None:
    assert symptoms(text)[name] == 1.0


def test_densities_are_per_hundred_units() -> None:
    """ "I am sorry ." is 4 units with one apology: 25 per 100."""
    assert symptoms("I am sorry.")["apologies"] == pytest.approx(25.0)
    assert symptoms("也许是吧。")["hedges"] == pytest.approx(100 / 5)


@pytest.mark.parametrize(
    "text",
    [
        "The frog found a red kite near the mill, and the baker laughed.",
        "Please take the blue cup to the baker. She is waiting.",
        "Is the mill open? It is, until six.",
        "小猫在河边睡着了，农夫给它盖上了毯子。",
        "Overall length matters little here; what counts is the width of the gate and how it turns.",
    ],
)
def test_clean_answers_raise_nothing(text: str) -> None:
    assert not any(symptoms(text).values())


def test_describe_adds_up() -> None:
    result = describe(["a b c", "", "a b c d e"], tokens=[4, 1, 6], ended=[True, True, False])
    assert (result.n, result.length_median) == (3, 4.0)
    assert result.length_mean == pytest.approx(11 / 3)
    assert result.truncated == pytest.approx(1 / 3)
    assert result.empty == pytest.approx(1 / 3)
    assert describe(["a b c"]).truncated is None
    with pytest.raises(HeedError, match="2 texts but 1 token"):
        describe(["a", "b"], tokens=[1])


def test_a_symptom_that_doubles_beyond_chance_is_flagged() -> None:
    before = ["The cat sat."] * 90 + ["Go on, please."] * 10
    after = ["The cat sat."] * 60 + ["Go on, please."] * 40
    found = {row.name: row for row in compare_symptoms(before, after)}
    assert found["please"].flagged
    assert found["please"].before == pytest.approx(0.1)
    assert found["please"].after == pytest.approx(0.4)
    assert not any(row.flagged for name, row in found.items() if name != "please")
    few = {row.name: row for row in compare_symptoms(["Hm."] * 3, ["Hm.", "Hm.", "Go, please"])}
    assert not few["please"].flagged
