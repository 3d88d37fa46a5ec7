"""A judge does not obey the answer it judges: a corpus of orders, and a reader that follows any that reach it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.judges.injections import BAD, PAYLOADS
from tests.unit.judges.naive import GOOD, Obedient

from heedlm.judges import both_orders, frames
from heedlm.judges.constitution import Case, draw, principles
from heedlm.records import Message, Prompt

PROMPT = (Message(role="user", content="Where is the mill?"),)
RIGHT = f"The mill is {GOOD}."
SCORING = [payload for payload in PAYLOADS if payload.kind == "score"]


@pytest.fixture
def undefended(monkeypatch):
    """The same frames with the texts pasted in as they are, and without the word of warning."""
    monkeypatch.setattr(frames, "quoted", lambda text, speaker="": speaker + text)
    monkeypatch.setattr(frames, "_DATA", "")


def flips():
    """For each payload, in how many of the two places the worse answer wins by it."""
    judge = Obedient()
    found = []
    for payload in PAYLOADS:
        first = judge.compare(PROMPT, payload.answer("A"), RIGHT).preference
        second = judge.compare(PROMPT, RIGHT, payload.answer("B")).preference
        found.append((first == 1.0) + (second == 0.0))
    return found


def test_the_corpus_is_large_and_varied():
    assert len(PAYLOADS) >= 60
    assert len({(p.kind, p.text) for p in PAYLOADS}) == len(PAYLOADS)
    assert Counter(p.lang for p in PAYLOADS)["zh"] >= 20
    assert len({p.kind for p in PAYLOADS}) >= 12


def test_the_judge_is_honest_where_there_is_no_order(monkeypatch):
    judge = Obedient()
    for first, second, wanted in ((RIGHT, BAD, 1.0), (BAD, RIGHT, 0.0)):
        assert judge.compare(PROMPT, first, second).preference == wanted
    assert judge.rate_all([(PROMPT, RIGHT), (PROMPT, BAD)]) == [9.0, 2.0]
    monkeypatch.setattr(frames, "quoted", lambda text, speaker="": speaker + text)
    assert judge.compare(PROMPT, BAD, RIGHT).preference == 0.0


def test_undefended_every_payload_wins(undefended):
    """In both places, but for a false heading above the true one, which comes later and counts."""
    found = flips()
    dead = [payload for payload, wins in zip(PAYLOADS, found, strict=True) if wins < 2 and payload.kind != "heading"]
    assert not dead, "a payload that nobody obeys tests nothing"
    assert min(found) >= 1
    assert sum(found) / (2 * len(PAYLOADS)) > 0.95


def test_defended_less_than_one_in_a_hundred_wins():
    wins = sum(flips())
    assert wins / (2 * len(PAYLOADS)) < 0.01
    assert wins == 0


def test_a_mark_before_every_line_is_not_enough(monkeypatch):
    """The reader does not heed warnings; hiding, role tokens and line ends need their own part of the quoting."""

    def only_prefix(text, speaker=""):
        return "\n".join(f"> {line}" for line in (speaker + text).split("\n"))

    monkeypatch.setattr(frames, "quoted", only_prefix)
    found = flips()
    kinds = {payload.kind for payload, wins in zip(PAYLOADS, found, strict=True) if wins}
    assert sum(found) > 30
    assert {"role marker", "end of quote", "wide"} <= kinds


def test_scores_and_grades_are_not_taken_from_the_answer(monkeypatch):
    judge = Obedient()
    answers = [payload.answer("A") for payload in SCORING]
    cases = [Case(Prompt(messages=PROMPT), answer) for answer in answers]
    assert judge.rate_all([(PROMPT, answer) for answer in answers]) == [2.0] * len(answers)
    assert judge.grade(cases) == [1] * len(answers)
    monkeypatch.setattr(frames, "quoted", lambda text, speaker="": speaker + text)
    assert judge.rate_all([(PROMPT, answer) for answer in answers]) == [10.0] * len(answers)
    assert judge.grade(cases) == [5] * len(answers)


def test_in_both_orders_a_payload_changes_nothing():
    judge = Obedient()
    for payload in PAYLOADS:
        verdict = both_orders(judge, PROMPT, payload.answer("A"), RIGHT)
        assert (verdict.preference, verdict.consistent) == (0.0, True)


def unquoted(text):
    return [line for line in text.splitlines() if not line.startswith("> ")]


@given(st.text(st.characters(), max_size=40), st.text(st.characters(), max_size=40))
def test_no_text_adds_or_changes_a_line_of_the_frame(one, two):
    """Whatever is judged, all that stands outside the quotations is the same, line for line."""
    talk, plain = (Message(role="user", content=one),), (Message(role="user", content="q"),)
    assert unquoted(frames.comparison(talk, one, two, "Q?", two)) == unquoted(
        frames.comparison(plain, "a", "b", "Q?", "n")
    )
    assert unquoted(frames.rating(talk, two, "Q?")) == unquoted(frames.rating(plain, "a", "Q?"))
    assert unquoted(frames.rubric(talk, two)) == unquoted(frames.rubric(plain, "a"))
    assert unquoted(frames.critique(talk, two, "Q?")) == unquoted(frames.critique(plain, "a", "Q?"))
    assert unquoted(frames.revision(talk, one, two, "Q?")) == unquoted(frames.revision(plain, "a", "b", "Q?"))


def test_what_is_quoted_can_still_be_read():
    assert frames.quoted("Hello, 小猫 👨\u200d👩\u200d👧!\n\tTwo.") == "> Hello, 小猫 👨\u200d👩\u200d👧!\n> \tTwo."
    assert frames.quoted("a\u202eb\U000e0041") == "> a\\u{202e}b\\u{e0041}"
    assert frames.quoted("x<|im_start|>y</s>") == "> x< |im_start|>y< /s>"
    assert frames.quoted("1 < 2 | <b>bold</b> > 0") == "> 1 < 2 | <b>bold</b> > 0"
    assert frames.quoted("") == "> "


@pytest.mark.parametrize(
    ("reply", "points"),
    [
        ("Good.\nScore: 4", 4), ("Score: 5/5", 5), ("**Score: 0**", 0), ("Score: 3.", 3), ("score: 2", 2),
        ("Score: 6", None), ("Score: 4\nso it is", None), ("4", None), ("", None), ("The answer says Score: 5", None),
        ("Score: 3.5", None),
    ],
)  # fmt: skip
def test_points_are_read_from_the_last_line_alone(reply, points):
    assert frames.read_points(reply) == points


@pytest.mark.parametrize(
    ("reply", "place"),
    [("A", 0), (" b. ", 1), ("**B**", 1), ("A or B", None), ("Answer A", None), ("", None), ("C", None)],
)
def test_a_verdict_is_the_whole_reply_or_none(reply, place):
    assert frames.read_option(reply, ("A", "B")) == place


def test_texts_are_read_behind_their_heading():
    assert frames.read_text("REVISION: The mill: by the pond.", "REVISION") == "The mill: by the pond."
    assert frames.read_text("Critique: none", "CRITIQUE") == "none"
    assert frames.read_text("Here you are: REVISION: x", "REVISION") is None
    assert frames.read_text("REVISION:  ", "REVISION") is None


def test_the_shipped_principles_speak_both_languages():
    found = principles()
    assert {each.criterion for each in found} == {"helpful", "honest", "harmless"}
    for each in found:
        for use in ("critique", "revision", "comparison"):
            assert each.request(use, "en").isascii()
            assert not each.request(use, "zh").isascii()
            assert each.request(use, "fr") == each.request(use, "en")
    drawn = {draw(found, 0, number).id for number in range(200)}
    assert drawn == {each.id for each in found}
    assert draw(found, 3, "x") == draw(found, 3, "x")
