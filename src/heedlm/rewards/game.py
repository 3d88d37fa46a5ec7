"""A game as the reward: walk home along a road. Win or lose at the end, and every move costs a little.

The smallest case of what board games and robots are to reinforcement learning: nobody shows good play, the end alone
says who won, and the fewer moves the better.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
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
PLACES = 10  # numbered 0 to 9 from left to right
NEAREST = 2  # least distance of a home in the prompts made here
_QUESTIONS = {"en": "You are at {at}. Home is at {home}.", "zh": "你在{at}，家在{home}。"}
_MOVES = {"en": (" left", " right"), "zh": ("左", "右")}
_STEP = {"left": -1, "right": 1, "左": -1, "右": 1}
_MOVE = re.compile("|".join(_STEP))
_NUMBER = re.compile(r"[0-9]+")


class Walk(Config):
    """Walk home along a road of ten places: +1 for arriving, −1 for not, and every move costs.

    The prompt names where the walker stands and where home is; the answer is moves (left, right, 左, 右) and nothing
    else. A move past an end of the road leaves the walker there. Moves after arriving cost like the others.
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
            BadInput: A prompt does not name two places of the road.
        """
        like = episodes.rollouts.logps
        steps = torch.zeros(like.shape, dtype=like.dtype)
        first = episodes.rollouts.prompt_lengths.tolist()
        won, count = [], []
        rows = zip(episodes.prompts, episodes.texts, episodes.rollouts.responses(), strict=True)
        for row, (prompt, text, tokens) in enumerate(rows):
            won.append(arrives(text, *places(prompt)))
            made = [len(_MOVE.findall(self._chat.decode(tokens[:end]))) for end in range(len(tokens) + 1)]
            count.append(made[-1])
            for place, (before, after) in enumerate(pairwise(made), first[row]):
                steps[row, place] = -self.cost * (after - before)
        wins, moves = (torch.tensor(values, dtype=like.dtype, device=like.device) for values in (won, count))
        return Reward(2 * wins - 1, {"won": wins, "moves": moves}, steps.to(like.device))


def places(prompt: Prompt) -> tuple[int, int]:
    """Where the walker stands and where home is: the two numbers of the prompt's last message.

    Raises:
        BadInput: There are not two, or one is no place of the road.
    """
    text = prompt.messages[-1].content
    found = [int(number) for number in _NUMBER.findall(text)]
    if len(found) != 2 or max(found) >= PLACES:
        raise BadInput(
            f"prompt {prompt.id}: {text[:60]!r} is no start of a walk; name a place and a home from 0 to {PLACES - 1}"
        )
    return found[0], found[1]


def arrives(answer: str, at: int, home: int) -> bool:
    """Whether an answer is moves alone, and they lead home at some time."""
    if _MOVE.sub("", answer).strip():
        return False
    for move in _MOVE.findall(answer):
        if at == home:
            break
        at = min(max(at + _STEP[move], 0), PLACES - 1)
    return at == home


def starts(split: Literal["train", "test"]) -> list[tuple[int, int]]:
    """Pairs of place and home, at least `NEAREST` apart; every fourth is kept for the test."""
    pairs = [(at, home) for at in range(PLACES) for home in range(PLACES) if abs(at - home) >= NEAREST]
    return [pair for number, pair in enumerate(pairs) if (number % 4 == 0) == (split == "test")]


def prompts(split: Literal["train", "test"], lang: Lang = "en") -> Iterator[Prompt]:
    """One prompt for each start of a split."""
    for at, home in starts(split):
        yield Prompt(messages=(_question(at, home, lang),), meta=Meta(source="walk", lang=lang, split=split))


def demonstrations(count: int, seed: int = 0, lang: Lang = "en") -> Iterator[Demonstration]:
    """Aimless walks from the training starts, to learn the moves from: each move left or right by chance, 1 to 8."""
    chance = random.Random(seed)
    pairs = starts("train")
    for _ in range(count):
        at, home = chance.choice(pairs)
        walk = "".join(chance.choice(_MOVES[lang]) for _ in range(chance.randint(1, 8))).strip()
        turns = (_question(at, home, lang), Message(role="assistant", content=walk))
        yield Demonstration(messages=turns, meta=Meta(source="walk", lang=lang, split="train"))


def _question(at: int, home: int, lang: Lang) -> Message:
    return Message(role="user", content=_QUESTIONS[lang].format(at=at, home=home))
