"""Items from files: answers, comparisons, prompts and so on become the items of a project of some kind of question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from heedlm.errors import BadInput
from heedlm.feedback.kinds import QuestionKind
from heedlm.feedback.tasks import Content
from heedlm.records import (
    Answer,
    Answers,
    Comparison,
    Demonstration,
    Prompt,
    Rating,
    Row,
    Steps,
    Thumb,
    detect_kind,
    read,
)
from heedlm.records.faults import BadRow, RowFault, explain

Reply = dict[str, Any]
Made = list[tuple[Content, Reply | None]]


@dataclass(frozen=True)
class Uploaded:
    """What a file held: items, the right reply to each where they are tests, and the rows set aside, by line."""

    contents: list[Content] = field(default_factory=list)
    expected: list[Reply] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)


def items_from(
    path: Path, kind: QuestionKind, *, tests: bool = False, name: str | None = None, limit: int | None = None
) -> Uploaded:
    """Read items for a kind of question.

    Answers, comparisons and demonstrations serve for ranking, choosing and rating; each answer is an item of its own
    for thumbs; prompts are enough where people write, and an answer beside one is theirs to mend; for the first wrong
    step a row says its steps, or an answer is cut at its lines.

    Args:
        path: The file, of any layout and format that `records.read` knows.
        kind: The project's kind of question.
        tests: The items are gold or qualification: rows must say the right reply.
        name: What errors call the file.
        limit: Stop after this many rows.

    Raises:
        BadInput: No row can be read, or the kind has no right reply.
    """
    try:
        return _read(path, kind, tests, limit)
    except BadInput as error:
        raise BadInput(str(error).replace(str(path), name or path.name)) from None


def _read(path: Path, kind: QuestionKind, tests: bool, limit: int | None) -> Uploaded:
    rows = read(path, _row_kind(path, kind, tests), max_bad_rows=1.0, limit=limit)
    make = _tests(kind) if tests else _MAKE[kind.name]
    found = Uploaded(bad=list(rows.bad))
    for row, line in zip(rows.rows, rows.lines, strict=True):
        try:
            for content, right in make(row):
                _check(kind, content)
                found.contents.append(content)
                if right is not None:
                    found.expected.append(right)
        except (RowFault, ValidationError) as error:
            why = explain(error) if isinstance(error, ValidationError) else str(error)
            found.bad.append(BadRow(line, why, ""))
    found.bad.sort(key=lambda row: row.line)
    if not found.contents:
        first = "; ".join(f"line {row.line}: {row.reason}" for row in found.bad[:3])
        raise BadInput(f"{path}: none of its rows makes an item for this kind of question ({first})")
    return found


def _row_kind(path: Path, kind: QuestionKind, tests: bool) -> type[Row]:
    """As what the rows of a file are read."""
    if tests:
        if kind.name == "write":
            raise BadInput("what people write has no single right form: projects of this kind have no gold items")
        judged: dict[str, type[Row]] = {"rate": Rating, "thumb": Thumb, "steps": Steps}
        return judged.get(kind.name, Comparison)
    held = detect_kind(path)
    if kind.name == "write" and held not in (Answers, Demonstration, Thumb, Rating):
        return Prompt
    return Steps if kind.name == "steps" and held is Steps else Answers


def _check(kind: QuestionKind, content: Content) -> None:
    count = len(content.answers)
    if not kind.fewest <= count <= kind.most:
        wanted = str(kind.fewest) if kind.fewest == kind.most else f"{kind.fewest} to {kind.most}"
        raise RowFault(f"{count} answers, this kind of question needs {wanted}")
    if kind.name == "steps" and not content.steps:
        raise RowFault("there are no steps")


# ---------------------------------------------------------------- what is asked


def _whole(row: Row) -> Made:
    assert isinstance(row, Answers)
    return [(Content(prompt=row.prompt, answers=row.answers, meta=row.meta), None)]


def _each(row: Row) -> Made:
    assert isinstance(row, Answers)
    return [(Content(prompt=row.prompt, answers=(answer,), meta=row.meta), None) for answer in row.answers]


def _to_write(row: Row) -> Made:
    if isinstance(row, Prompt):
        return [(Content(prompt=row.messages, meta=row.meta), None)]
    assert isinstance(row, Answers)
    return [(Content(prompt=row.prompt, answers=row.answers[:1], meta=row.meta), None)]


def _in_steps(row: Row) -> Made:
    if isinstance(row, Steps):
        return [(_steps(row), None)]
    assert isinstance(row, Answers)
    made: Made = []
    for answer in row.answers:
        lines = tuple(line for line in answer.text.splitlines(keepends=True) if line.strip())
        made.append((Content(prompt=row.prompt, answers=(answer,), steps=lines, meta=row.meta), None))
    return made


def _steps(row: Steps) -> Content:
    return Content(prompt=row.prompt, answers=(Answer(text="".join(row.steps)),), steps=row.steps, meta=row.meta)


_MAKE: dict[str, Callable[[Row], Made]] = {
    "rank": _whole,
    "pair": _whole,
    "rate": _whole,
    "thumb": _each,
    "write": _to_write,
    "steps": _in_steps,
}

# ---------------------------------------------------------------- tests, with the right reply


def _tests(kind: QuestionKind) -> Callable[[Row], Made]:
    def make(row: Row) -> Made:
        if isinstance(row, Comparison):
            content = Content(prompt=row.prompt, answers=row.answers, meta=row.meta)
            return [(content, _compared(kind, row))]
        if isinstance(row, Steps):
            wrong = next((place for place, label in enumerate(row.labels) if label == -1), None)
            return [(_steps(row), {"wrong": wrong})]
        assert isinstance(row, Rating | Thumb)
        content = Content(prompt=row.prompt, answers=(row.answer,), meta=row.meta)
        if isinstance(row, Rating):
            return [(content, {"scores": [row.score], "flags": [list(row.flags)]})]
        return [(content, {"up": row.up, "reason": row.reason or ""})]

    return make


def _compared(kind: QuestionKind, row: Comparison) -> Reply:
    if kind.name == "rank":
        return {"ranks": dense(row.ranks)}
    if len(row.ranks) != 2:
        raise RowFault(f"{len(row.ranks)} answers, this kind of question needs 2")
    if row.ranks[0] == row.ranks[1]:
        return {"better": "same"}
    return {"better": int(row.ranks[1] < row.ranks[0]), "strength": row.strength or "better"}


def dense(ranks: Sequence[int]) -> list[int]:
    """Ranks without gaps: 1 is best, and the next lower one is 1 more."""
    place = {rank: number for number, rank in enumerate(sorted(set(ranks)), 1)}
    return [place[rank] for rank in ranks]
