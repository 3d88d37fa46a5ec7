"""The walk home: its rules by hand, its costs on the tokens of the moves, and the rows that are made for it."""

from itertools import islice

import pytest
import torch
from tests.unit import devices
from tests.unit.rewards.test_sources import episodes
from tests.unit.train import tiny

from heedlm.errors import BadInput
from heedlm.models import Chat, train_tokenizer
from heedlm.records import Message, Prompt
from heedlm.rewards import Walk
from heedlm.rewards.game import NEAREST, PLACES, arrives, demonstrations, places, prompts, starts
from heedlm.rewards.types import Episodes
from heedlm.rollout import Sampling, Scripted
from heedlm.rollout.answering import answer


@pytest.mark.parametrize(
    ("walk", "at", "home", "won"),
    [
        ("right right", 3, 5, True),
        ("left left", 3, 5, False),
        ("right", 3, 5, False),
        ("right right right", 3, 5, True),  # too far is no loss, only a cost
        ("left right right right", 3, 5, True),
        ("", 3, 5, False),
        ("", 4, 4, True),
        ("left left right", 1, 1, True),
        ("left left right", 0, 1, True),  # the road ends at 0
        ("right right left", 9, 8, True),  # and at 9
        ("右右", 3, 5, True),
        ("左 右右右", 3, 5, True),
        ("right right.", 3, 5, False),  # moves and nothing else
        ("go right right", 3, 5, False),
        ("Right right", 3, 5, False),
        ("rightright", 3, 5, True),
    ],
)
def test_who_wins(walk, at, home, won):
    assert arrives(walk, at, home) is won


def asked(text):
    return Prompt(messages=(Message(role="user", content=text),))


def test_the_prompt_names_place_and_home():
    assert places(asked("You are at 3. Home is at 7.")) == (3, 7)
    assert places(asked("你在9，家在0。")) == (9, 0)
    for bad in ("You are at 3.", "You are at 3. Home is at 12.", "1 2 3", "home"):
        with pytest.raises(
            BadInput, match=r"prompt \w+: .* is no start of a walk; name a place and a home from 0 to 9"
        ):
            places(asked(bad))


def walked(texts, tokenizer, limit=12, cost=0.25):
    """The reward of answers to "from 2 to 4", as an engine makes them."""
    chat = Chat(tokenizer)
    rows = [asked("You are at 2. Home is at 4.")] * len(texts)
    engine = Scripted(answers=tuple(texts)).bind(None, tokenizer)
    found, rollouts = answer(engine, chat, rows, Sampling(max_new_tokens=limit), seed=0)
    made = Episodes(rows, found, rollouts)
    return made, Walk(cost=cost).open(chat).score(made)


@pytest.fixture(scope="module")
def words():
    """A tokenizer for which every move is one token."""
    return train_tokenizer(["left left", "right right", "左右"] * 40, 300)


def test_a_win_is_one_a_loss_minus_one_and_a_move_costs(words, near):
    _, reward = walked(["right right", "left", "right right left", "nonsense", ""], words)
    near(reward.total, [1, -1, 1, -1, -1])
    near(reward.parts["won"], [1, 0, 1, 0, 0])
    near(reward.parts["moves"], [2, 1, 3, 0, 0])
    near(reward.steps.sum(1), [-0.5, -0.25, -0.75, 0, 0])


@pytest.mark.parametrize("text", ["right right", "右右", "left right right right"])
def test_the_cost_lies_on_the_token_that_completes_the_move(words, text):
    """Whether a move is one token, or many bytes, as for a tokenizer that knows no such word."""
    for tokenizer in (words, tiny.tokenizer()):
        made, reward = walked([text], tokenizer, limit=80)
        chat, tokens = Chat(tokenizer), made.rollouts.responses()[0]
        first = int(made.rollouts.prompt_lengths[0])
        for k in range(len(tokens)):
            before, after = chat.decode(tokens[:k]), chat.decode(tokens[: k + 1])
            done = sum(after.count(m) - before.count(m) for m in ("left", "right", "左", "右"))
            assert reward.steps[0, first + k] == -0.25 * done
        assert reward.steps[0, :first].eq(0).all()
        assert reward.steps[0, first + len(tokens) :].eq(0).all()
        assert reward.steps.sum() == -0.25 * len(text.replace("left", "右").replace("right", "右").replace(" ", ""))


def test_a_walk_that_is_cut_counts_as_far_as_it_got(words):
    made, reward = walked(["right right right right", "left left left left"], words, limit=2)
    assert not made.rollouts.ended.any()
    assert reward.total.tolist() == [1, -1]
    assert reward.parts["moves"].tolist() == [2, 2]


def test_without_a_cost_moves_are_free(words):
    assert walked(["right right left left"], words, cost=0)[1].steps.eq(0).all()


# ---------------------------------------------------------------- the rows


def test_no_start_of_the_test_is_trained_on():
    train, test = starts("train"), starts("test")
    assert not set(train) & set(test)
    assert len(set(train)) == len(train)
    whole = {(a, b) for a in range(PLACES) for b in range(PLACES) if abs(a - b) >= NEAREST}
    assert set(train) | set(test) == whole
    assert len(test) == 18
    assert {b > a for a, b in test} == {False, True}
    assert {places(row) for row in prompts("test")} == set(test)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_aimless_play_seldom_wins(lang):
    rows = list(demonstrations(4000, seed=1, lang=lang))
    assert rows == list(demonstrations(4000, seed=1, lang=lang))
    assert rows != list(demonstrations(4000, seed=2, lang=lang))
    pairs = [places(asked(row.messages[0].content)) for row in rows]
    assert set(pairs) <= set(starts("train"))
    won = [arrives(row.messages[1].content, *pair) for row, pair in zip(rows, pairs, strict=True)]
    assert 0.05 < sum(won) / len(won) < 0.25
    assert all(row.meta.lang == lang for row in islice(rows, 5))


def test_numbers_are_where_the_answers_are(words, monkeypatch):
    made, wanted = walked(["right right", "left"], words)
    source = Walk(cost=0.25).open(Chat(words))
    with devices.pretended(monkeypatch) as device:
        found = source.score(Episodes(made.prompts, made.texts, made.rollouts.to(device)))
        assert {x.device for x in (found.total, found.steps, *found.parts.values())} == {device}
    assert torch.equal(devices.here(found.total), wanted.total)
    assert torch.equal(devices.here(found.steps), wanted.steps)


def test_texts_of_the_village_are_no_starts():
    with pytest.raises(BadInput, match="is no start of a walk"):
        Walk().open(Chat(tiny.tokenizer())).score(episodes(["left"]))
