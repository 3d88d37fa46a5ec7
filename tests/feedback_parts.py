"""What tests of the feedback store and of its pages share: a clock, an item, passwords that are quick to check."""

from argon2 import PasswordHasher

from heedlm.feedback import accounts
from heedlm.feedback.tasks import Content
from heedlm.records.types import Answer, Message


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


def content(place=0, answers=3, **more):
    """An item with answers that say which they are."""
    texts = [f"answer {number} to {place}" for number in range(answers)]
    return Content(
        prompt=(Message(role="user", content=f"question {place}"),),
        answers=tuple(Answer(text=text, model=f"model-{number}") for number, text in enumerate(texts)),
        **more,
    )


def hash_quickly(monkeypatch):
    """Argon2 with the least work it allows."""
    monkeypatch.setattr(accounts, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
