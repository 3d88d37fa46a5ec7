"""Conversations: trees of messages, whose they are, what becomes of verdicts."""

import pytest

from heedlm.errors import BadInput
from heedlm.feedback.conversations import Conversations
from heedlm.feedback.errors import Conflict, Refused
from heedlm.feedback.tables import conversations, events, messages, verdicts
from heedlm.feedback.verdicts import Verdicts
from heedlm.records import Comparison, Message, Thumb, read, write


@pytest.fixture
def chats(team):
    return Conversations(team.database)


@pytest.fixture
def judged(team):
    return Verdicts(team.database)


@pytest.fixture
def ann(team):
    return team.person("ann", "chat", group="north")


def begun(chats, user, text="How do frogs sing?", consent=False):
    """A conversation with one question; returns both."""
    talk = chats.start(user, "frog-1", text, consent=consent)
    return talk, chats.messages(user, talk.id)[0]


def answered(chats, user, talk, question, text, state="whole"):
    made = chats.answer(user, talk.id, question.id, "frog-1")
    return chats.finish(made.answer.id, text, state)


def count(team, table):
    with team.database.read() as connection:
        return len(connection.execute(table.select()).all())


def test_turns_follow_each_other(chats, ann):
    talk, first = begun(chats, ann)
    croak = answered(chats, ann, talk, first, "They croak.")
    second = chats.ask(ann, talk.id, croak.id, "At night?")
    made = chats.answer(ann, talk.id, second.id, "frog-2")
    assert [(m.role, m.content) for m in made.prompt] == [
        ("user", "How do frogs sing?"),
        ("assistant", "They croak."),
        ("user", "At night?"),
    ]
    assert [m.state for m in chats.messages(ann, talk.id)] == ["whole", "whole", "whole", "writing"]
    assert chats.get(ann, talk.id).model == "frog-2"
    assert chats.get(ann, talk.id).consent is False


def test_edits_and_regenerations_are_branches(chats, ann):
    talk, first = begun(chats, ann)
    croak = answered(chats, ann, talk, first, "They croak.")
    ribbit = answered(chats, ann, talk, first, "Ribbit.")
    edited = chats.ask(ann, talk.id, None, "How do toads sing?")
    assert croak.parent == ribbit.parent == first.id
    assert edited.parent is first.parent is None
    made = chats.answer(ann, talk.id, edited.id, "frog-1")
    assert made.prompt == (Message(role="user", content="How do toads sing?"),)
    assert len({m.created for m in chats.messages(ann, talk.id)}) == 5


def test_what_cannot_be_said(chats, ann):
    talk, first = begun(chats, ann)
    with pytest.raises(BadInput, match="is empty"):
        chats.ask(ann, talk.id, None, " \n ")
    with pytest.raises(BadInput, match="32,001"):
        chats.ask(ann, talk.id, None, "x" * 32_001)
    with pytest.raises(BadInput, match="comes after an answer"):
        chats.ask(ann, talk.id, first.id, "And?")
    with pytest.raises(Refused):
        chats.ask(ann, talk.id, "nowhere", "And?")
    writing = chats.answer(ann, talk.id, first.id, "frog-1").answer
    with pytest.raises(Conflict, match="being written"):
        chats.answer(ann, talk.id, first.id, "frog-1")
    with pytest.raises(Conflict, match="not there"):
        chats.ask(ann, talk.id, writing.id, "And?")
    chats.finish(writing.id, "", "failed", problem="no memory")
    with pytest.raises(Conflict):
        chats.ask(ann, talk.id, writing.id, "And?")
    with pytest.raises(BadInput, match="no such question"):
        chats.answer(ann, talk.id, writing.id, "frog-1")


def test_text_that_no_database_keeps_is_mended(chats, ann):
    talk, first = begun(chats, ann, "a\0b \ud800")
    assert first.content == "a\ufffdb ?"
    assert answered(chats, ann, talk, first, "x\0\ud800y").content == "x\ufffd?y"


def test_an_answer_is_finished_once(chats, ann):
    talk, first = begun(chats, ann)
    made = chats.answer(ann, talk.id, first.id, "frog-1").answer
    assert chats.finish(made.id, "They", "stopped", left_out=2).left_out == 2
    assert chats.finish(made.id, "They croak.", "whole") is None
    assert chats.message(ann, talk.id, made.id).content == "They"
    lost = chats.answer(ann, talk.id, first.id, "frog-1").answer
    assert chats.abandon() == 1
    assert chats.message(ann, talk.id, lost.id).state == "failed"


def test_nobody_else_sees_or_changes_it(team, chats, judged, ann):
    talk, first = begun(chats, ann)
    croak = answered(chats, ann, talk, first, "They croak.")
    for stranger in (team.person("olga", "owner"), team.person("bob", "chat")):
        for forbidden in (
            lambda who: chats.get(who, talk.id),
            lambda who: chats.messages(who, talk.id),
            lambda who: chats.message(who, talk.id, first.id),
            lambda who: chats.ask(who, talk.id, None, "Hello?"),
            lambda who: chats.answer(who, talk.id, first.id, "frog-1"),
            lambda who: chats.change(who, talk.id, consent=True),
            lambda who: chats.delete(who, talk.id),
            lambda who: judged.give(who, talk.id, croak.id, "up", "k"),
            lambda who: judged.of(who, talk.id),
        ):
            with pytest.raises(Refused):
                forbidden(stranger)
        assert chats.mine(stranger) == []


def test_a_message_of_another_conversation_is_not_found(chats, ann):
    talk, first = begun(chats, ann)
    other, _ = begun(chats, ann)
    croak = answered(chats, ann, talk, first, "They croak.")
    with pytest.raises(Refused):
        chats.message(ann, other.id, croak.id)
    with pytest.raises(Refused):
        chats.ask(ann, other.id, croak.id, "And?")
    with pytest.raises(BadInput):
        chats.answer(ann, other.id, first.id, "frog-1")


def test_history_is_searched_by_title_and_text(team, chats, ann):
    talk, first = begun(chats, ann, "How do frogs sing?\nAll of them.")
    answered(chats, ann, talk, first, "100% croaking")
    team.clock.time += 60
    newer, _ = begun(chats, ann, "王奶奶的猫呢？")
    assert [c.id for c in chats.mine(ann)] == [newer.id, talk.id]
    assert [c.title for c in chats.mine(ann)] == ["王奶奶的猫呢？", "How do frogs sing?"]
    for search, found in (("FROGS", [talk]), ("100%", [talk]), ("奶奶", [newer]), ("%", [talk]), ("_", []), ("x", [])):
        assert [c.id for c in chats.mine(ann, search)] == [c.id for c in found]
    assert chats.mine(ann, skip=1)[0].id == talk.id


def test_renaming_and_consent(team, chats, ann):
    talk, _ = begun(chats, ann)
    assert chats.change(ann, talk.id, title="  Frogs\nat night ").title == "Frogs at night"
    assert chats.change(ann, talk.id, consent=True).consent is True
    assert chats.change(ann, talk.id, consent=False).title == "Frogs at night"
    for bad in (" ", "x" * 201):
        with pytest.raises(BadInput):
            chats.change(ann, talk.id, title=bad)
    with team.database.read() as connection:
        noted = [row.what for row in connection.execute(events.select()) if row.about == talk.id]
    assert noted == ["consent given", "consent withdrawn"]


def test_deleting_leaves_nothing(team, chats, judged, ann):
    talk, first = begun(chats, ann)
    croak = answered(chats, ann, talk, first, "They croak.")
    judged.give(ann, talk.id, croak.id, "up", "k")
    late = chats.answer(ann, talk.id, first.id, "frog-1").answer
    begun(chats, ann)
    chats.delete(ann, talk.id)
    assert chats.finish(late.id, "too late", "whole") is None
    assert (count(team, conversations), count(team, messages), count(team, verdicts)) == (1, 1, 0)
    bob = team.person("bob", "chat")
    begun(chats, bob)
    assert chats.delete_all(ann) == 1
    assert count(team, conversations) == 1
    assert len(chats.mine(bob)) == 1


# ---------------------------------------------------------------- verdicts


@pytest.fixture
def two(chats, ann):
    """A consented conversation with two answers to its first question."""
    talk, first = begun(chats, ann, consent=True)
    old = answered(chats, ann, talk, first, "They croak.")
    return talk, first, old, answered(chats, ann, talk, first, "Ribbit.", "stopped")


@pytest.mark.parametrize(
    ("verdict", "ranks", "pairs", "ties"),
    [("better", (2, 1), [(1, 0)], []), ("worse", (1, 2), [(0, 1)], []), ("same", (1, 1), [], [(0, 1)])],
)
def test_each_click_is_a_pair_or_a_tie(judged, ann, two, tmp_path, verdict, ranks, pairs, ties):
    talk, _, old, new = two
    judged.give(ann, talk.id, new.id, verdict, "k", against=old.id)
    (record,) = judged.records()
    assert isinstance(record, Comparison)
    assert record.prompt == (Message(role="user", content="How do frogs sing?"),)
    assert [(a.text, a.model, a.ended) for a in record.answers] == [
        ("They croak.", "frog-1", True),
        ("Ribbit.", "frog-1", False),
    ]
    assert (record.ranks, record.pairs(), record.ties()) == (ranks, pairs, ties)
    assert (record.annotator, record.group, record.consent, record.meta.source) == (ann.id, "north", True, "chat")
    file = tmp_path / "comparisons.jsonl"
    write(file, [record])
    assert read(file, Comparison).rows[0].ranks == ranks


def test_the_prompt_is_the_conversation_so_far(chats, judged, ann, two):
    talk, _, _, new = two
    second = chats.ask(ann, talk.id, new.id, "At night?")
    first_try = answered(chats, ann, talk, second, "Yes.")
    second_try = answered(chats, ann, talk, second, "Mostly at night.")
    judged.give(ann, talk.id, second_try.id, "better", "k", against=first_try.id)
    (record,) = judged.records()
    assert [m.content for m in record.prompt] == ["How do frogs sing?", "Ribbit.", "At night?"]


def test_thumbs_keep_their_reason(judged, ann, two):
    talk, _, old, _ = two
    judged.give(ann, talk.id, old.id, "down", "k", reason="too short")
    (record,) = judged.records()
    assert isinstance(record, Thumb)
    assert (record.up, record.reason, record.answer.text) == (False, "too short", "They croak.")


def test_without_consent_there_are_no_records(chats, judged, ann, two):
    talk, _, old, new = two
    judged.give(ann, talk.id, new.id, "better", "k", against=old.id)
    assert len(list(judged.records(talk.id))) == 1
    chats.change(ann, talk.id, consent=False)
    assert list(judged.records()) == []
    with pytest.raises(Refused, match="may not be used"):
        list(judged.records(talk.id))
    chats.change(ann, talk.id, consent=True)
    assert len(list(judged.records(user=ann.id))) == 1
    assert list(judged.records(user="somebody else")) == []


def test_the_last_version_counts_and_older_ones_stay(team, judged, ann, two):
    talk, _, old, new = two
    first = judged.give(ann, talk.id, new.id, "better", "k1", against=old.id)
    point = judged.newest()
    again = judged.give(ann, talk.id, new.id, "better", "k1", against=old.id)
    assert again == first
    with pytest.raises(Conflict):
        judged.give(ann, talk.id, new.id, "worse", "k1", against=old.id)
    assert judged.give(ann, talk.id, new.id, "worse", "k2", against=old.id).version == 2
    assert [v.verdict for v in judged.of(ann, talk.id)] == ["worse"]
    assert [r.ranks for r in judged.records()] == [(1, 2)]
    assert [r.ranks for r in judged.records(upto=point)] == [(2, 1)]
    judged.give(ann, talk.id, new.id, "none", "k3", against=old.id)
    assert judged.of(ann, talk.id) == []
    assert list(judged.records()) == []
    assert count(team, verdicts) == 3


def test_what_cannot_be_judged(chats, judged, ann, two):
    talk, first, old, new = two
    failed = answered(chats, ann, talk, first, "", "failed")
    last = answered(chats, ann, talk, first, "Croak, croak.")
    for message, against, verdict, reason in (
        (new, None, "better", "must be one of"),
        (new, old, "up", "must be one of"),
        (old, new, "better", "earlier"),
        (new, new, "same", "earlier"),
        (failed, None, "up", "not there"),
        (last, failed, "better", "failed"),
    ):
        with pytest.raises(BadInput, match=reason):
            judged.give(ann, talk.id, message.id, verdict, "k", against=against and against.id)
    with pytest.raises(Refused):
        judged.give(ann, talk.id, first.id, "up", "k")


def test_equal_answers_teach_nothing_unless_called_the_same(chats, judged, ann, two):
    talk, first, old, _ = two
    twin = answered(chats, ann, talk, first, "They croak.")
    judged.give(ann, talk.id, twin.id, "better", "k", against=old.id)
    assert list(judged.records()) == []
