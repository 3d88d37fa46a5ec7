"""What is put before people: a conversation and answers to it."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from heedlm.records.types import Answer, Message, Meta, check_turns

LONGEST = 100_000  # characters of a text that people are shown


class Content(BaseModel):
    """One item of a project, whatever its kind of question.

    `answers` are in an order of their own, which nobody is shown; `steps` cut a single answer into steps;
    `critiques[k]` are a model's remarks on answer k.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: tuple[Message, ...]
    answers: tuple[Answer, ...] = ()
    steps: tuple[str, ...] = ()
    critiques: tuple[str, ...] = ()
    meta: Meta = Meta()
    notes: dict[str, Any] = Field(default_factory=dict)  # of whoever made the item, kept and never shown

    @field_validator("prompt")
    @classmethod
    def _turns(cls, prompt: tuple[Message, ...]) -> tuple[Message, ...]:
        check_turns(prompt, "user")
        if any(len(message.content) > LONGEST for message in prompt):
            raise ValueError(f"a message is longer than {LONGEST} characters")
        return prompt

    @property
    def digest(self) -> str:
        """What makes two items the same: the conversation and the texts of the answers."""
        turns = [[message.role, message.content] for message in self.prompt]
        plain = json.dumps([turns, [answer.text for answer in self.answers], list(self.steps)], ensure_ascii=False)
        return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def shuffled(answers: int, item: str, user: str) -> list[int]:
    """In which order a person sees the answers: random, and the same whenever they come back to the item."""
    order = list(range(answers))
    random.Random(f"{item} {user}").shuffle(order)
    return order


def by_answer(shown: Sequence[Any], order: Sequence[int]) -> list[Any]:
    """Values in the order shown, put in the order of the answers themselves."""
    values: list[Any] = [None] * len(order)
    for place, answer in enumerate(order):
        values[answer] = shown[place]
    return values


def as_shown(values: Sequence[Any], order: Sequence[int]) -> list[Any]:
    """Values in the order of the answers, put in the order shown."""
    return [values[answer] for answer in order]
