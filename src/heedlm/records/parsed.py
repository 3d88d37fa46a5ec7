"""Between formats and types: what a row of any format says, and the rows of each type made from it.

Every format is read into `Parsed` and every type is built from `Parsed`, so that formats and types need not
know each other: comparisons can serve as prompts, dialogues as documents, a ranking's best answer as a
demonstration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from heedlm.records.faults import RowFault
from heedlm.records.types import (
    Answers,
    Comparison,
    Demonstration,
    Document,
    Meta,
    Prompt,
    Rating,
    Row,
    Steps,
    Thumb,
)

T = TypeVar("T", bound=Row)
Turn = dict[str, Any]  # {"role": …, "content": …}

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
# Fields that a judgement carries besides the answers, kept from one judged type to another.
JUDGED = ("annotator", "group", "guideline_version", "consent", "schema_version")
OF_COMPARISONS = ("strength", "criterion", "order_shown", "certainty", "margin")
OF_STEPS = ("steps", "labels", "chances")


@dataclass
class Parsed:
    """One row, whatever its format: the turns before the answers, the answers, and what was said of them."""

    turns: list[Turn] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    ranks: list[int] | None = None
    up: bool | None = None
    score: int | None = None
    text: str | None = None
    more: dict[str, Any] = field(default_factory=dict)  # id and fields of judgements
    meta: dict[str, Any] = field(default_factory=dict)


def turn(role: object, content: object) -> Turn:
    """Return a turn under Heed's role names; raise RowFault where role or content is no string or unknown."""
    if not isinstance(role, str) or role.strip().lower() not in ROLES:
        raise RowFault(f"unknown role {role!r}: expected system, user or assistant")
    if not isinstance(content, str):
        raise RowFault(f"the content of {role!r} is {_kind(content)}, expected text")
    return {"role": ROLES[role.strip().lower()], "content": content}


def turns_of(value: object, name: str) -> list[Turn]:
    """Return the turns of a list of {role, content} or {from, value}."""
    if not isinstance(value, list):
        raise RowFault(f"{name} is {_kind(value)}, expected a list of messages")
    turns = []
    for message in value:
        if not isinstance(message, Mapping):
            raise RowFault(f"{name} holds {_kind(message)}, expected messages with role and content")
        role = message.get("role", message.get("from"))
        turns.append(turn(role, message.get("content", message.get("value"))))
    return turns


def dialogue(turns: list[Turn]) -> Parsed:
    """Split a conversation before its last message if that is the assistant's."""
    if turns and turns[-1]["role"] == "assistant":
        return Parsed(turns=turns[:-1], answers=[{"text": turns[-1]["content"]}])
    return Parsed(turns=turns)


def meta_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a foreign row's columns say of its origin."""
    inner = row.get("meta")
    meta = {key: inner[key] for key in Meta.model_fields if key in inner} if isinstance(inner, dict) else {}
    columns = {
        "source": "source",
        "domain": "domain",
        "category": "domain",
        "lang": "lang",
        "language": "lang",
        "split": "split",
    }
    for column, name in columns.items():
        if isinstance(row.get(column), str) and row[column]:
            meta.setdefault(name, row[column])
    return meta


def id_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Return {"id": …} where a row has one that is text or a whole number, else nothing."""
    given = row.get("id")
    usable = isinstance(given, str | int) and not isinstance(given, bool)
    return {"id": str(given)} if usable and str(given) else {}


def build(parsed: Parsed, kind: type[T]) -> T:
    """Make a row of `kind` from what was parsed.

    Raises:
        RowFault: If the row does not say what the kind needs.
        pydantic.ValidationError: If what it says is not valid.
    """
    return kind.model_validate({**_fields(parsed, kind), "meta": parsed.meta})


def _fields(parsed: Parsed, kind: type[Row]) -> dict[str, Any]:
    given = {key: parsed.more[key] for key in ("id",) if key in parsed.more}
    if kind is Document:
        return {**given, "text": _text(parsed)}
    if not parsed.turns:
        raise RowFault("there is no prompt, only text" if parsed.text is not None else "there is no prompt")
    if kind is Prompt:
        return {**given, "messages": parsed.turns}
    if not parsed.answers:
        raise RowFault("there is no answer: the last message is not the assistant's")
    if kind is Demonstration:
        best = {"role": "assistant", "content": _best(parsed)["text"]}
        return {**given, "messages": [*parsed.turns, best]}
    if kind is Answers:
        return {**given, "prompt": parsed.turns, "answers": parsed.answers}
    given |= {key: parsed.more[key] for key in JUDGED if key in parsed.more}
    given["prompt"] = parsed.turns
    if kind is Comparison:
        return given | _comparison(parsed)
    if kind is Steps:
        if "steps" not in parsed.more:
            raise RowFault("there are no steps with labels")
        return given | _only(parsed, *OF_STEPS)
    if len(parsed.answers) != 1:
        raise RowFault(f"there are {len(parsed.answers)} answers, expected one")
    given["answer"] = parsed.answers[0]
    if kind is Thumb:
        if parsed.up is None:
            raise RowFault("there is no thumb (a label that is true or false)")
        return given | {"up": parsed.up} | _only(parsed, "reason")
    if kind is Rating:
        if parsed.score is None:
            raise RowFault("there is no score from 1 to 7")
        return given | {"score": parsed.score} | _only(parsed, "flags")
    raise TypeError(f"{kind.__name__} is not a kind of row that files hold")


def _comparison(parsed: Parsed) -> dict[str, Any]:
    if len(parsed.answers) < 2:
        raise RowFault("there is only one answer, a comparison needs two")
    if len(parsed.answers) > 9:
        raise RowFault(f"{len(parsed.answers)} answers, a comparison has at most 9")
    if parsed.ranks is None:
        raise RowFault("there is no ranking of the answers")
    more = _only(parsed, *OF_COMPARISONS)
    return {"answers": parsed.answers, "ranks": parsed.ranks} | more


def _only(parsed: Parsed, *names: str) -> dict[str, Any]:
    return {name: parsed.more[name] for name in names if name in parsed.more}


def _best(parsed: Parsed) -> dict[str, Any]:
    if parsed.up is False:
        raise RowFault("its answer is marked bad, so it demonstrates nothing")
    if parsed.ranks is not None and len(parsed.ranks) == len(parsed.answers):
        return parsed.answers[parsed.ranks.index(min(parsed.ranks))]
    if len(parsed.answers) > 1:
        raise RowFault(f"there are {len(parsed.answers)} answers and no ranking: which one demonstrates?")
    return parsed.answers[0]


def _text(parsed: Parsed) -> str:
    if parsed.text is not None:
        return parsed.text
    said = [message["content"] for message in parsed.turns]
    if parsed.answers and parsed.up is not False and (parsed.ranks is not None or len(parsed.answers) == 1):
        said.append(_best(parsed)["text"])
    if not said:
        raise RowFault("there is no text")
    return "\n\n".join(said)


def natural_kind(parsed: Parsed) -> type[Row]:
    """Return the kind that loses the least of a row."""
    if parsed.text is not None:
        return Document
    if parsed.ranks is not None:
        return Comparison
    if parsed.up is not None:
        return Thumb
    if parsed.score is not None:
        return Rating
    if not parsed.answers:
        return Prompt
    return Demonstration if len(parsed.answers) == 1 else Answers


def _kind(value: object) -> str:
    if value is None:
        return "missing"
    return f"a {'number' if isinstance(value, int | float) else type(value).__name__}"
