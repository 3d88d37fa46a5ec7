"""What all kinds of questions share: who replied, and the reading of what a page sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heedlm.errors import BadInput
from heedlm.feedback.tasks import Content
from heedlm.records.types import Criterion, Meta

LONGEST = 20_000  # characters a person may write


@dataclass(frozen=True)
class Said:
    """The circumstances of a reply, as they go into the record made of it."""

    annotator: str
    group: str | None = None
    guideline: str | None = None
    criterion: Criterion = "overall"
    order: tuple[int, ...] | None = None
    source: str | None = None

    def who(self, content: Content) -> dict[str, Any]:
        """The fields that every record has of who judged, under which guideline, and where the prompt is from."""
        meta = content.meta if content.meta.source else content.meta.model_copy(update={"source": self.source})
        return {
            "annotator": self.annotator,
            "group": self.group,
            "guideline_version": self.guideline,
            "meta": Meta.model_validate(meta.model_dump()),
        }


def whole_numbers(reply: Mapping[str, Any], field: str, count: int, low: int, high: int) -> list[int]:
    """A list of `count` whole numbers in [low, high].

    Raises:
        BadInput: It is not there, or not that.
    """
    values = reply.get(field)
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != count:
        raise BadInput(f"{field}: must hold {count} numbers, one for each answer")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise BadInput(f"{field}: {value!r} is not a whole number from {low} to {high}")
    return list(values)


def one_of(reply: Mapping[str, Any], field: str, allowed: Sequence[Any]) -> Any:
    """A value out of a list.

    Raises:
        BadInput: It is none of them.
    """
    value = reply.get(field)
    if value not in allowed or (isinstance(value, bool) != any(isinstance(a, bool) and a == value for a in allowed)):
        raise BadInput(f"{field}: must be one of {', '.join(map(str, allowed))}")
    return value


def text(reply: Mapping[str, Any], field: str, *, needed: bool = False) -> str:
    """What a person wrote.

    Raises:
        BadInput: It is too long, or nothing where something is needed.
    """
    value = reply.get(field, "")
    if not isinstance(value, str):
        raise BadInput(f"{field}: must be text")
    if len(value) > LONGEST:
        raise BadInput(f"{field}: has {len(value)} characters, at most {LONGEST} are kept")
    if needed and not value.strip():
        raise BadInput(f"{field}: is empty")
    return value
