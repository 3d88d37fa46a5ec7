"""Exports of Argilla: records with responses and suggestions, as its versions write them.

Argilla 2 nests (`to_json`: fields, responses by question) or flattens (`to_datasets`: `QUESTION.responses`,
`QUESTION.responses.users`, `QUESTION.responses.status`); Argilla 1 has a column for each question that holds
`{user_id, value, status}`, and its server answers with a list of `{user_id, values, status}`. A ranking of Argilla 2 is
a list of names, best first: its export drops which of them were tied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heedlm.feedback.interchange.replies import Columns, Reply, Shown, shown

Fields = Mapping[str, Any]
OWN = {"id", "_server_id", "status", "metadata", "vectors", "external_id", "inserted_at", "updated_at"}


def recognise(row: Fields) -> bool:
    """Whether a row is a record of Argilla."""
    if isinstance(row.get("fields"), Mapping) and ("responses" in row or "suggestions" in row):
        return True
    return any(name.endswith(".responses") for name in row) or any(_is_question(value) for value in row.values())


def read(row: Fields, columns: Columns) -> tuple[Shown, list[Reply]]:
    """What a record showed, and every reply to it, suggestions included.

    Raises:
        RowFault: No field is a prompt.
    """
    if isinstance(row.get("fields"), Mapping):
        fields, replies = row["fields"], [*_nested(row), *_suggested(row)]
    else:
        questions = {name for name, value in row.items() if _is_question(value) or "." in name or "-suggestion" in name}
        fields = {name: value for name, value in row.items() if name not in questions and name not in OWN}
        replies = [*_flat(row), *_columns(row)]
    about = row.get("metadata")
    given = row.get("id") or row.get("external_id")
    replies = [
        Reply(reply.where, reply.question, reply.value, reply.annotator, None, reply.left_out, _id(given, reply))
        for reply in replies
    ]
    return shown(fields, about if isinstance(about, Mapping) else row, columns), replies


def _id(given: object, reply: Reply) -> str | None:
    return f"{given}/{reply.question}/{reply.annotator}" if isinstance(given, str | int) and given else None


def _reply(where: str, question: str, value: Any, user: object, status: object) -> Reply:
    name = str(getattr(status, "value", status)).lower() if status else "submitted"
    left_out = f"{name} responses" if name != "submitted" else "empty responses" if value in (None, "", []) else None
    return Reply(where, question, value, None if user is None else str(user), left_out=left_out)


def _suggestion(where: str, question: str, value: Any, agent: object) -> Reply:
    return Reply(where, question, value, None if agent is None else str(agent), left_out="suggestions")


def _nested(row: Fields) -> Iterator[Reply]:
    responses = row.get("responses") or {}
    if isinstance(responses, Mapping):
        for question, given in responses.items():
            for one in _dicts(given):
                where = f"responses.{question}"
                yield _reply(where, question, one.get("value"), one.get("user_id"), one.get("status"))
        return
    for one in _dicts(responses):
        values = one.get("values")
        for question, value in values.items() if isinstance(values, Mapping) else ():
            said = value.get("value") if isinstance(value, Mapping) else value
            yield _reply(f"responses.{question}", question, said, one.get("user_id"), one.get("status"))


def _suggested(row: Fields) -> Iterator[Reply]:
    suggestions = row.get("suggestions") or {}
    if isinstance(suggestions, Mapping):
        named = [(question, one) for question, one in suggestions.items() if isinstance(one, Mapping)]
    else:
        named = [(str(one.get("question_name")), one) for one in _dicts(suggestions)]
    for question, one in named:
        yield _suggestion(f"suggestions.{question}", question, one.get("value"), one.get("agent"))


def _flat(row: Fields) -> Iterator[Reply]:
    for name, values in row.items():
        if name.endswith(".responses") and isinstance(values, list):
            question = name.removesuffix(".responses")
            users = row.get(f"{name}.users") or [None] * len(values)
            states = row.get(f"{name}.status") or [None] * len(values)
            for value, user, state in zip(values, users, states, strict=False):
                yield _reply(name, question, value, user, state)
        elif name.endswith(".suggestion") and values is not None:
            yield _suggestion(name, name.removesuffix(".suggestion"), values, row.get(f"{name}.agent"))


def _columns(row: Fields) -> Iterator[Reply]:
    """Argilla 1: a list of {user_id, value, status}, or one of lists."""
    for question, given in row.items():
        if not _is_question(given):
            continue
        if isinstance(given, Mapping):
            lists = [given[key] for key in ("value", "user_id", "status")]
            said = [dict(zip(("value", "user_id", "status"), one, strict=True)) for one in zip(*lists, strict=False)]
        else:
            said = given
        for one in said:
            yield _reply(question, question, one.get("value"), one.get("user_id"), one.get("status"))


def _is_question(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(value.get(key), list) for key in ("user_id", "value", "status"))
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, Mapping) and {"user_id", "value"} <= one.keys() for one in value)
    )


def _dicts(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
