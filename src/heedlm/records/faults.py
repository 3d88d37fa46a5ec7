"""What can be wrong with a row: reasons that a person reads, each naming the field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from heedlm.records.types import (
    Answer,
    Answers,
    Comparison,
    Demonstration,
    Document,
    Message,
    Prompt,
    Rating,
    Row,
    Steps,
    Thumb,
)


class RowFault(ValueError):
    """One row cannot be used; the message is the reason."""


@dataclass(frozen=True)
class BadRow:
    """A row set aside: its line (its place, from 1, in a JSON list or a table), the reason, its beginning."""

    line: int
    reason: str
    excerpt: str


def explain(error: ValidationError) -> str:
    """Return a validation error's first fault as `field: what is wrong`."""
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "extra_forbidden":
        return f"unknown field '{_field(first['loc'])}'"
    if first["type"] == "missing":
        return f"no field '{_field(first['loc'])}'"
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"{_field(first['loc'])}: {message}" if first["loc"] else message


def _field(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location)


def fault(row: Row) -> str | None:
    """Return why a row that has a meaning still teaches nothing, or None if it is sound.

    Empty texts are faults, with one exception: an answer that names the model it came from may be empty,
    because that is something the model did. Answers of one comparison with the same text must share a rank.
    """
    if isinstance(row, Document):
        return None if row.text.strip() else "empty text"
    if isinstance(row, Prompt | Demonstration):
        return _turns(row.messages)
    if isinstance(row, Comparison):
        return _turns(row.prompt) or _answers(row.answers) or _ranks(row)
    if isinstance(row, Answers):
        return _turns(row.prompt)
    if isinstance(row, Steps):
        return _turns(row.prompt) or (None if "".join(row.steps).strip() else "empty answer")
    if isinstance(row, Rating | Thumb):
        return _turns(row.prompt) or _answers([row.answer])
    return None


def _turns(messages: Sequence[Message]) -> str | None:
    for place, message in enumerate(messages, start=1):
        if not message.content.strip() and message.role != "system":
            what = "empty prompt" if message.role == "user" else "empty answer"
            return f"{what} (message {place})"
    return None


def _answers(answers: Sequence[Answer]) -> str | None:
    for place, answer in enumerate(answers, start=1):
        if not answer.text.strip() and answer.model is None:
            return "empty answer" if len(answers) == 1 else f"empty answer (answer {place})"
    return None


def _ranks(row: Comparison) -> str | None:
    rank_of: dict[str, int] = {}
    for answer, rank in zip(row.answers, row.ranks, strict=True):
        if rank_of.setdefault(answer.text.strip(), rank) != rank:
            if len(row.answers) == 2:
                return "chosen equal to rejected"
            return f"equal answers with different ranks ({rank_of[answer.text.strip()]} and {rank})"
    return None
