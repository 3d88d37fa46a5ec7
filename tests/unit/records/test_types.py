"""The types: what they refuse, what they make up, and what they say of themselves."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from heedlm.records import (
    Answer,
    Answers,
    Comparison,
    Demonstration,
    Document,
    Message,
    Meta,
    Prompt,
    Rating,
    Thumb,
)

ASK = (Message(role="user", content="Who lives here?"),)
A, B, C = (Answer(text=text) for text in ("Ann", "Bo", "Cy"))


def said(*roles):
    return tuple(Message(role=role, content=f"text {place}") for place, role in enumerate(roles))


@pytest.mark.parametrize(
    ("kind", "roles", "reason"),
    [
        (Prompt, (), "no messages"),
        (Prompt, ("system",), "no user message"),
        (Prompt, ("assistant",), "message 1 is from 'assistant', expected 'user'"),
        (Prompt, ("user", "user"), "message 2 is from 'user', expected 'assistant'"),
        (Prompt, ("user", "system"), "message 2 is from 'system'"),
        (Prompt, ("system", "user", "assistant"), "the last message is from 'assistant', expected 'user'"),
        (Demonstration, ("user",), "no answer to the last user turn"),
        (Demonstration, ("user", "assistant", "assistant"), "message 3 is from 'assistant'"),
    ],
)
def test_roles_must_run_in_order(kind, roles, reason):
    with pytest.raises(ValidationError) as caught:
        kind(messages=said(*roles))
    assert reason in str(caught.value)


def test_conversations_of_several_turns_with_a_system_message_are_sound():
    assert len(Prompt(messages=said("system", "user", "assistant", "user")).messages) == 4
    assert len(Demonstration(messages=said("user", "assistant", "user", "assistant")).messages) == 4


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"answers": (A,), "ranks": (1,)}, "at least 2"),
        ({"answers": (A,) * 10, "ranks": (1,) * 10}, "at most 9"),
        ({"answers": (A, B), "ranks": (1,)}, "2 answers but 1 ranks"),
        ({"answers": (A, B), "ranks": (0, 1)}, "ranks start at 1"),
        ({"answers": (A, B), "ranks": (1, 2), "order_shown": (1, 2)}, "order_shown"),
        ({"answers": (A, B), "ranks": (1, 2), "criterion": "funny"}, "helpful"),
        ({"answers": (A, B), "ranks": (1, 2), "rank": 1}, "Extra inputs"),
    ],
)
def test_comparisons_refuse_what_has_no_meaning(fields, reason):
    with pytest.raises(ValidationError) as caught:
        Comparison(prompt=ASK, **fields)
    assert reason in str(caught.value)


def test_pairs_and_ties_of_a_ranking():
    row = Comparison(prompt=ASK, answers=(A, B, C), ranks=(2, 1, 2))
    assert row.pairs() == [(1, 0), (1, 2)]
    assert row.ties() == [(0, 2)]


def test_pairs_and_ties_cover_every_two_answers_once():
    row = Comparison(prompt=ASK, answers=(A, B, C, Answer(text="Di")), ranks=(3, 1, 1, 7))
    seen = {frozenset(pair) for pair in row.pairs() + row.ties()}
    assert len(seen) == len(row.pairs()) + len(row.ties()) == 6


@pytest.mark.parametrize("score", [0, 8])
def test_ratings_run_from_one_to_seven(score):
    with pytest.raises(ValidationError):
        Rating(prompt=ASK, answer=A, score=score)


def test_ids_come_from_the_content_alone():
    row = Comparison(prompt=ASK, answers=(A, B), ranks=(1, 2))
    assert row.id == Comparison(prompt=ASK, answers=(A, B), ranks=(1, 2), meta=Meta(lang="en")).id
    assert row.id != Comparison(prompt=ASK, answers=(A, B), ranks=(2, 1)).id
    assert row.id != Comparison(prompt=ASK, answers=(A, B), ranks=(1, 2), annotator="ann").id
    assert Prompt(messages=ASK).id != Prompt(messages=(Message(role="user", content="Who?"),)).id
    assert Prompt(id="mine", messages=ASK).id == "mine"


def test_ids_are_the_same_in_every_process():
    code = "from heedlm.records import Document; print(Document(text='月光').id)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == Document(text="月光").id


def test_rows_are_frozen():
    row = Thumb(prompt=ASK, answer=A, up=True)
    with pytest.raises(ValidationError):
        row.up = False


def test_sampled_answers_may_be_empty_and_one():
    assert Answers(prompt=ASK, answers=(Answer(text="", ended=True, tokens=1),)).answers[0].text == ""
