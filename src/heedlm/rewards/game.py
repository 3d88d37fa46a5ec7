"""A game as the reward: walk home along a road. Win or lose at the end, and every move costs a little.

The smallest case of what board games and robots are to reinforcement learning: nobody shows good play, the end alone
says who won, and the fewer moves the better.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat

from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.models.chat import Chat
from heedlm.records import Demonstration, Message, Meta, Prompt
from heedlm.rewards.types import Episodes, Reward

Lang = Literal["en", "zh"]
Split = Literal["train", "test"]
LENGTHS = range(6, 11)  # places of the roads made here
NEAREST = 2  # least distance of a home made here
_WALKER, _HOME, _EMPTY = {"en": "you", "zh": "你"}, {"en": "home", "zh": "家"}, "-"
_HEAD = {"en": "Road:", "zh": "路："}
_MOVES = {"en": (" left", " right"), "zh": ("左", "右")}
_STEP = {"left": -1, "right": 1, "左": -1, "右": 1}
_MOVE = re.compile("|".join(_STEP))


@dataclass(frozen=True)
class Start:
    """A road of so many places, the place (from 0) where the walker stands, and that of home."""

    length: int
    at: int
    home: int


class Walk(Config):
    """Walk home along a road: +1 for arriving, −1 for not, and every move costs.

    The prompt shows the road, as in "Road: - - you - - - home -"; the answer is moves (left, right, 左, 右) and
    nothing else. A move past an end of the road leaves the walker there. Moves after arriving cost like the others.
    """

    name: Literal["walk"] = "walk"
    cost: NonNegativeFloat = Field(0.05, description="reward lost with each move, on the token that completes it")

    def open(self, chat: Chat, device: torch.device | str = "cpu") -> WalkReward:
        """Nothing to load; the tokenizer tells which token makes which move."""
        return WalkReward(self.cost, chat)


class WalkReward:
    """Referees walks."""

    def __init__(self, cost: float, chat: Chat) -> None:
        self.cost, self._chat = cost, chat

    def score(self, episodes: Episodes) -> Reward:
        """(B,) ±1, the moves made and the walks won as parts, and (B, T) the moves' costs.

        Raises:
            BadInput: A prompt shows no road.
        """
        like = episodes.rollouts.logps
        steps = torch.zeros(like.shape, dtype=like.dtype)
        first = episodes.rollouts.prompt_lengths.tolist()
        won, count = [], []
        rows = zip(episodes.prompts, episodes.texts, episodes.rollouts.responses(), strict=True)
        for row, (prompt, text, tokens) in enumerate(rows):
            won.append(arrives(text, start_of(prompt)))
            made = [len(_MOVE.findall(self._chat.decode(tokens[:end]))) for end in range(len(tokens) + 1)]
            count.append(made[-1])
            for place, (before, after) in enumerate(pairwise(made), first[row]):
                steps[row, place] = -self.cost * (after - before)
        wins, moves = (torch.tensor(values, dtype=like.dtype, device=like.device) for values in (won, count))
        return Reward(2 * wins - 1, {"won": wins, "moves": moves}, steps.to(like.device))


def start_of(prompt: Prompt) -> Start:
    """The road that a prompt's last message shows.

    Raises:
        BadInput: It shows none: the walker and home must each be on it once, and dashes on all other places.
    """
    text = prompt.messages[-1].content
    for lang, head in _HEAD.items():
        places, there = text.removeprefix(head).split(), (_WALKER[lang], _HOME[lang])
        if text.startswith(head) and sorted(place for place in places if place != _EMPTY) == sorted(there):
            return Start(len(places), *map(places.index, there))
    raise BadInput(f"prompt {prompt.id}: {text[:60]!r} shows no road; write one as in 'Road: - you - - home'")


def arrives(answer: str, start: Start) -> bool:
    """Whether an answer is moves alone, and they lead home at some time."""
    if _MOVE.sub("", answer).strip():
        return False
    at = start.at
    for move in _MOVE.findall(answer):
        if at == start.home:
            break
        at = min(max(at + _STEP[move], 0), start.length - 1)
    return at == start.home


def starts(split: Split) -> list[Start]:
    """Every start on a road of `LENGTHS` with home at least `NEAREST` away; a fourth is kept for the test.

    A pair of places goes to one split in both directions, so that going one way always wins half of the starts.
    """
    pairs = [(n, left, right) for n in LENGTHS for left in range(n) for right in range(left + NEAREST, n)]
    chosen = [pair for number, pair in enumerate(pairs) if (number % 4 == 0) == (split == "test")]
    return [Start(n, *ends) for n, left, right in chosen for ends in ((left, right), (right, left))]


def prompts(split: Split, lang: Lang = "en") -> Iterator[Prompt]:
    """One prompt for each start of a split."""
    for start in starts(split):
        yield Prompt(messages=(_shown(start, lang),), meta=Meta(source="walk", lang=lang, split=split))


def demonstrations(count: int, seed: int = 0, lang: Lang = "en") -> Iterator[Demonstration]:
    """Aimless walks from the training starts, to learn the moves from: 1 to 8, each left or right by chance."""
    chance = random.Random(seed)
    every = starts("train")
    for _ in range(count):
        question = _shown(chance.choice(every), lang)
        walk = "".join(chance.choice(_MOVES[lang]) for _ in range(chance.randint(1, 8))).strip()
        turns = (question, Message(role="assistant", content=walk))
        yield Demonstration(messages=turns, meta=Meta(source="walk", lang=lang, split="train"))


def _shown(start: Start, lang: Lang) -> Message:
    places = [_EMPTY] * start.length
    places[start.at], places[start.home] = _WALKER[lang], _HOME[lang]
    return Message(role="user", content=" ".join([_HEAD[lang], *places]))
