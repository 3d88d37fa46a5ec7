"""Exports of Label Studio (JSON): tasks with annotations whose results are pairwise, ranker, rating, choices, textarea.

The export leaves out the labelling interface. A pairwise result says left or right, which are the two answers in the
order of their names; a ranker names the ids of the list's items, best first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from heedlm.feedback.interchange.replies import Columns, Reply, Shown, shown
from heedlm.records.faults import RowFault

Fields = Mapping[str, Any]
SORTS = {"pairwise": "choice", "choices": "choice", "rating": "rating", "ranker": "ranking", "textarea": "text"}
VALUES = {"pairwise": "selected", "textarea": "text"}  # the key of a value where it is not the type's name
PLACED = {"pairwise", "ranker"}  # both show the answers in the order of the task


def recognise(row: Fields) -> bool:
    """Whether a row is a task of Label Studio."""
    return isinstance(row.get("data"), Mapping) and ("annotations" in row or "predictions" in row)


def read(row: Fields, columns: Columns) -> tuple[Shown, list[Reply]]:
    """What a task showed, and every result of its annotations and predictions.

    Raises:
        RowFault: No field is a prompt, or an item of the list has no text.
    """
    data, replies = dict(row["data"]), list(_replies(row))
    items = None
    if any(reply.sort == "ranking" for reply in replies):
        items = _items(data)
        if items:
            columns = replace(columns, answers=tuple(items))
            data |= items
    about = row.get("meta")
    seen = shown(data, {**data, **about} if isinstance(about, Mapping) else data, columns)
    return replace(seen, in_order=any(reply.where.endswith(tuple(PLACED)) for reply in replies)), replies


def _items(data: Fields) -> dict[str, str]:
    """The texts of a list's items, by id."""
    for value in data.values():
        if isinstance(value, list) and value and all(isinstance(item, Mapping) and "id" in item for item in value):
            found = {}
            for item in value:
                text = next((item[key] for key in ("body", "html", "text", "title") if item.get(key)), None)
                if not isinstance(text, str):
                    raise RowFault(f"item {item['id']!r} of the list has no body, html or title")
                found[str(item["id"])] = text
            return found
    return {}


def _replies(row: Fields) -> Iterator[Reply]:
    for key in ("annotations", "predictions"):
        for place, given in enumerate(row.get(key) or []):
            if not isinstance(given, Mapping):
                continue
            person = given.get("completed_by") if key == "annotations" else given.get("model_version")
            if isinstance(person, Mapping):
                person = person.get("id", person.get("email"))
            left_out = (
                "predictions" if key == "predictions" else "skipped tasks" if given.get("was_cancelled") else None
            )
            own = f"{row.get('id', '')}/{given.get('id', place)}"
            if left_out == "skipped tasks":
                yield Reply(f"{key}[{place}]", "", None, None, left_out=left_out)
                continue
            for result in given.get("result") or []:
                if isinstance(result, Mapping):
                    annotator = None if person is None else str(person)
                    yield _reply(result, f"{key}[{place}]", annotator, left_out, own)


def _reply(result: Fields, where: str, annotator: str | None, left_out: str | None, own: str) -> Reply:
    kind, question = str(result.get("type", "")), str(result.get("from_name", ""))
    value = result.get("value")
    said = value.get(VALUES.get(kind, kind)) if isinstance(value, Mapping) else None
    if kind not in SORTS:
        left_out = left_out or f"results of type {kind}"
    if kind == "ranker":
        said = _order(said)
    return Reply(
        f"{where}.{question}.{kind}", question, said, annotator, SORTS.get(kind), left_out, f"{own}/{question}"
    )


def _order(value: Any) -> Any:
    """The ids best first, of {NAME: ids} or a plain list; buckets are handed on by their names."""
    if not isinstance(value, Mapping):
        return value
    return next(iter(value.values())) if len(value) == 1 else {"buckets": list(value)}
