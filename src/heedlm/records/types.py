"""The rows that stages hand to each other: documents, prompts, demonstrations, answers and judgements.

Every type is frozen and refuses unknown fields. A type refuses what has no meaning (roles out of order,
two answers and three ranks); what has a meaning but teaches nothing (an empty answer, a chosen answer equal
to the rejected one) is found by `faults.fault`, which `read` applies to every row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Role = Literal["system", "user", "assistant"]
Strength = Literal["significantly", "better", "slightly", "negligibly"]
Criterion = Literal["overall", "helpful", "honest", "harmless"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(_Frozen):
    """One turn of a conversation."""

    role: Role
    content: str


class Meta(_Frozen):
    """Where a row comes from. `task` is the village's ground truth, from which gold scores are made."""

    source: str | None = None
    domain: str | None = None
    lang: str | None = None
    consent: bool | None = None
    family: str | None = None
    split: str | None = None
    task: dict[str, Any] | None = None


class Answer(_Frozen):
    """One answer to a prompt.

    `model` names what gave it; `ended` is False where it was cut at the limit instead of ending itself;
    `tokens` counts the answer's tokens, the end-of-sequence token included.
    """

    text: str
    model: str | None = None
    ended: bool = True
    tokens: int | None = Field(default=None, ge=0)


def check_turns(messages: Sequence[Message], last: Role) -> None:
    """Raise ValueError unless roles run: at most one system message, then user and assistant in turn.

    Args:
        messages: The conversation, oldest turn first.
        last: The role that must have the last word.
    """
    if not messages:
        raise ValueError("there are no messages")
    start = 1 if messages[0].role == "system" else 0
    for at in range(start, len(messages)):
        expected = "assistant" if (at - start) % 2 else "user"
        if messages[at].role != expected:
            raise ValueError(
                f"roles out of order: message {at + 1} is from {messages[at].role!r}, expected {expected!r}"
            )
    if len(messages) == start:
        raise ValueError("there is a system message but no user message")
    if messages[-1].role != last:
        what = "no answer to the last user turn" if last == "assistant" else "no user turn to answer"
        raise ValueError(f"{what}: the last message is from {messages[-1].role!r}, expected {last!r}")


def content_id(*parts: object) -> str:
    """Return 16 hex digits that depend on `parts` (JSON values) alone, the same in every process."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _plain(messages: Sequence[Message]) -> list[list[str]]:
    return [[message.role, message.content] for message in messages]


class Row(_Frozen):
    """What every row has: an id (made from the content where none is given) and where it comes from."""

    id: str = Field(default="", coerce_numbers_to_str=True)
    meta: Meta = Meta()

    def content(self) -> list[object]:
        """Return the JSON values that make two rows the same row, whatever their ids and meta."""
        raise TypeError(f"{type(self).__name__} does not say what its content is")

    @model_validator(mode="after")
    def _fill_id(self) -> Self:
        if not self.id:
            # Past pydantic, so that `id` stays out of model_fields_set, which tells given ids from made ones.
            object.__setattr__(self, "id", content_id(type(self).__name__, *self.content()))
        return self


class Document(Row):
    """A text to pretrain on."""

    text: str

    def content(self) -> list[object]:
        """Return the text."""
        return [self.text]


class Prompt(Row):
    """A conversation that waits for an answer: its last message is the user's."""

    messages: tuple[Message, ...]

    @field_validator("messages")
    @classmethod
    def _turns(cls, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        check_turns(messages, "user")
        return messages

    def content(self) -> list[object]:
        """Return the messages."""
        return [_plain(self.messages)]


class Demonstration(Row):
    """A conversation that shows how to answer: its last message is the assistant's."""

    messages: tuple[Message, ...]

    @field_validator("messages")
    @classmethod
    def _turns(cls, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        check_turns(messages, "assistant")
        return messages

    def content(self) -> list[object]:
        """Return the messages."""
        return [_plain(self.messages)]


class _Asked(Row):
    prompt: tuple[Message, ...]

    @field_validator("prompt")
    @classmethod
    def _turns(cls, prompt: tuple[Message, ...]) -> tuple[Message, ...]:
        check_turns(prompt, "user")
        return prompt


class Answers(_Asked):
    """A prompt and the answers that models gave to it, not yet judged; an answer may be empty."""

    answers: tuple[Answer, ...] = Field(min_length=1)

    def content(self) -> list[object]:
        """Return the prompt and the answers' texts."""
        return [_plain(self.prompt), [answer.text for answer in self.answers]]


class _Judged(_Asked):
    annotator: str | None = None
    group: str | None = None
    guideline_version: str | None = None
    consent: bool | None = None
    schema_version: int = 1


class Comparison(_Judged):
    """Two to nine answers to one prompt, ranked: 1 is best, equal ranks are a tie.

    `order_shown[k]` is the index of the answer that the annotator saw in place k. `certainty` is the probability
    that a pair is ranked the right way round, where that is known to be uncertain; `margin` is how much higher
    (reward units) a reward model should score the better answer of a pair.
    """

    answers: tuple[Answer, ...] = Field(min_length=2, max_length=9)
    ranks: tuple[int, ...]
    strength: Strength | None = None
    criterion: Criterion = "overall"
    order_shown: tuple[int, ...] | None = None
    certainty: float | None = Field(default=None, ge=0, le=1)
    margin: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ranks(self) -> Self:
        if len(self.ranks) != len(self.answers):
            raise ValueError(f"{len(self.answers)} answers but {len(self.ranks)} ranks")
        if min(self.ranks) < 1:
            raise ValueError(f"ranks start at 1 (best), found {min(self.ranks)}")
        if self.order_shown is not None and sorted(self.order_shown) != list(range(len(self.answers))):
            raise ValueError("order_shown must name each answer's index once, counted from 0")
        return self

    def pairs(self) -> list[tuple[int, int]]:
        """Return every (i, j) where answer i is ranked better than answer j."""
        places = range(len(self.ranks))
        return [(i, j) for i in places for j in places if self.ranks[i] < self.ranks[j]]

    def ties(self) -> list[tuple[int, int]]:
        """Return every (i, j), i < j, where answers i and j share a rank."""
        places = range(len(self.ranks))
        return [(i, j) for i in places for j in places if i < j and self.ranks[i] == self.ranks[j]]

    def content(self) -> list[object]:
        """Return the prompt, the answers' texts, their ranks, the criterion and who judged."""
        texts = [answer.text for answer in self.answers]
        return [_plain(self.prompt), texts, list(self.ranks), self.criterion, self.annotator]


class Steps(_Judged):
    """One answer in steps, each right (1), neutral (0) or wrong (−1); the steps' texts joined are the answer.

    `chances[k]`, where known, is the share of attempts to go on from step k that ended well.
    """

    steps: tuple[str, ...] = Field(min_length=1)
    labels: tuple[Literal[-1, 0, 1], ...]
    chances: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _labels(self) -> Self:
        if len(self.labels) != len(self.steps):
            raise ValueError(f"{len(self.steps)} steps but {len(self.labels)} labels")
        if self.chances is not None and len(self.chances) != len(self.steps):
            raise ValueError(f"{len(self.steps)} steps but {len(self.chances)} chances")
        if not all(0 <= chance <= 1 for chance in self.chances or ()):
            raise ValueError("chances must lie between 0 and 1")
        return self

    def content(self) -> list[object]:
        """Return the prompt, the steps, their labels and who judged."""
        return [_plain(self.prompt), list(self.steps), list(self.labels), self.annotator]


class Rating(_Judged):
    """One answer's score from 1 (worst) to 7 (best), with the flags that were raised."""

    answer: Answer
    score: int = Field(ge=1, le=7)
    flags: tuple[str, ...] = ()

    def content(self) -> list[object]:
        """Return the prompt, the answer's text, the score, the flags and who judged."""
        return [_plain(self.prompt), self.answer.text, self.score, list(self.flags), self.annotator]


class Thumb(_Judged):
    """One answer's thumb, up or down, with the reason if one was given."""

    answer: Answer
    up: bool
    reason: str | None = None

    def content(self) -> list[object]:
        """Return the prompt, the answer's text, the thumb and who judged."""
        return [_plain(self.prompt), self.answer.text, self.up, self.annotator]
