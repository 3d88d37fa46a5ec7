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
from heedlm.rewards.game import LENGTHS, NEAREST, Start, arrives, demonstrations, prompts, start_of, starts
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
        ("left left right", 0, 1, True),  # the road ends at 0
        ("right right left", 6, 5, True),  # and at its last place
        ("right right right left", 5, 6, True),
        ("右右", 3, 5, True),
        ("左 右右右", 3, 5, True),
        ("right right.", 3, 5, False),  # moves and nothing else
        ("go right right", 3, 5, False),
        ("Right right", 3, 5, False),
        ("rightright", 3, 5, True),
    ],
)
def test_who_wins(walk, at, home, won):
    assert arrives(walk, Start(7, at, home)) is won


def asked(text):
    return Prompt(messages=(Message(role="user", content=text),))


def test_the_prompt_shows_the_road():
    assert start_of(asked("Road: - - you - - - home -")) == Start(8, 2, 6)
    assert start_of(asked("路： 家 - 你")) == Start(3, 2, 0)
    assert start_of(asked("Road: you home")) == Start(2, 0, 1)


@pytest.mark.parametrize(
    "text",
    [
        "Road: - you -",
        "Road: you - you home",
        "you - home",
        "Road: you x home",
        "Road:",
        "路： you - home",
        "Road: 你 家",
    ],
)
def test_a_prompt_without_a_road_is_told(text):
    with pytest.raises(BadInput, match=r"prompt \w+: .* shows no road; write one as in 'Road: - you - - home'"):
        start_of(asked(text))


def walked(texts, tokenizer, limit=12, cost=0.25):
    """The reward of walks from 2 to 4, as an engine makes them."""
    chat = Chat(tokenizer)
    rows = [asked("Road: - - you - home -")] * len(texts)
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
    whole = {Start(n, a, b) for n in LENGTHS for a in range(n) for b in range(n) if abs(a - b) >= NEAREST}
    assert set(train) | set(test) == whole
    assert len(test) == 56
    assert sum(start.home > start.at for start in test) == 28
    for lang in ("en", "zh"):
        assert [start_of(row) for row in prompts("test", lang)] == test


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_aimless_play_seldom_wins(lang):
    rows = list(demonstrations(4000, seed=1, lang=lang))
    assert rows == list(demonstrations(4000, seed=1, lang=lang))
    assert rows != list(demonstrations(4000, seed=2, lang=lang))
    begun = [start_of(asked(row.messages[0].content)) for row in rows]
    assert set(begun) <= set(starts("train"))
    won = [arrives(row.messages[1].content, start) for row, start in zip(rows, begun, strict=True)]
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


def test_other_prompts_are_refused():
    with pytest.raises(BadInput, match="shows no road"):
        Walk().open(Chat(tiny.tokenizer())).score(episodes(["left"]))
