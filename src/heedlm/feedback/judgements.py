"""What annotators said, as plain values, and the same as numbers that coefficients of agreement are computed from.

Rankings are compared by pairs of answers: a pair is worth +1 where the first answer is better, −1 where the second is,
0 where they share a rank, and counts in both directions, as which answer is called the first means nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from heedlm.errors import BadInput
from heedlm.feedback.coefficients import Floats, Ints, Units
from heedlm.records import Comparison, Rating, Row, Thumb, content_id

Kind = Literal["ranking", "score", "label"]
Value = str | bool | float | tuple[int, ...]

MOST_VALUES = 101  # a slider from 0 to 100; the tables grow with the square
TIE = 1  # code of "the same" among worse, the same, better
_PAIRS = 36  # pairs of nine answers


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one annotator said of one item.

    `value` is a label, a score, or the rank of each answer (1 best, equal is a tie). `order_shown[k]` is the answer in
    place k; `lengths` counts the characters of each answer; `seconds` is the time taken.
    """

    item: str
    annotator: str
    value: Value
    kind: Kind = "label"
    group: str | None = None
    project: str | None = None
    order_shown: tuple[int, ...] | None = None
    lengths: tuple[int, ...] | None = None
    seconds: float | None = None


def judgements_of(rows: Iterable[Row], project: str | None = None) -> list[Judgement]:
    """The judgements among comparisons, ratings and thumbs that name their annotator.

    The item is made of prompt, answers and criterion, so that files that hold the answers in another order agree.
    """
    found = []
    for row in rows:
        if not isinstance(row, Comparison | Rating | Thumb) or row.annotator is None:
            continue
        prompt = [[message.role, message.content] for message in row.prompt]
        if isinstance(row, Comparison):
            texts = [answer.text for answer in row.answers]
            order = sorted(range(len(texts)), key=texts.__getitem__)
            place = {answer: at for at, answer in enumerate(order)}
            shown = None if row.order_shown is None else tuple(place[answer] for answer in row.order_shown)
            item = content_id(prompt, [texts[i] for i in order], row.criterion)
            ranks = tuple(row.ranks[i] for i in order)
            lengths = tuple(len(texts[i]) for i in order)
            judged = Judgement(
                item, row.annotator, ranks, "ranking", row.group, project, order_shown=shown, lengths=lengths
            )
        else:
            item = content_id(prompt, row.answer.text)
            kind: Kind = "score" if isinstance(row, Rating) else "label"
            value: Value = float(row.score) if isinstance(row, Rating) else "up" if row.up else "down"
            lengths = (len(row.answer.text),)
            judged = Judgement(item, row.annotator, value, kind, row.group, project, lengths=lengths)
        found.append(judged)
    return found


# ------------------------------------------------------------------------------------------ coding


@dataclass(frozen=True)
class Coded:
    """Judgements of one kind as numbers; `row[n]` is the judgement that value n of `units` comes from."""

    kind: Kind
    judgements: list[Judgement]
    items: list[str]
    annotators: list[str]
    units: Units
    row: Ints

    @property
    def tie(self) -> int | None:
        """Code that means "the same"."""
        return TIE if self.kind == "ranking" else None


def coded(judgements: Sequence[Judgement]) -> Coded:
    """Judgements of one kind as numbers; of two by one annotator on one item the later counts.

    Raises:
        BadInput: Values do not fit the kind, or one item has rankings of different lengths.
    """
    last = list({(judgement.item, judgement.annotator): judgement for judgement in judgements}.values())
    kind = last[0].kind if last else "label"
    items: dict[str, int] = {}
    people: dict[str, int] = {}
    item = np.array([items.setdefault(judgement.item, len(items)) for judgement in last], dtype=np.int64)
    person = np.array([people.setdefault(judgement.annotator, len(people)) for judgement in last], dtype=np.int64)
    if kind == "ranking":
        row, unit, value = _ranking_codes(last, item)
        units = Units(item[row], unit, person[row], value, np.array([-1.0, 0.0, 1.0]), mirrored=True)
    else:
        row = np.arange(len(last))
        value, scale = _value_codes(last, kind)
        units = Units(item, item, person, value, scale)
    return Coded(kind, last, list(items), list(people), units, row)


def _value_codes(judgements: Sequence[Judgement], kind: Kind) -> tuple[Ints, Floats]:
    for judgement in judgements:
        value = judgement.value
        fits = not isinstance(value, str | tuple) and math.isfinite(value) if kind == "score" else True
        if judgement.kind != kind or isinstance(value, tuple) or not fits:
            raise BadInput(
                f"agreement: {judgement.annotator!r} says {value!r} of item {judgement.item!r}, which is no {kind}: "
                "rankings, scores and labels are compared apart"
            )
    said = [judgement.value for judgement in judgements]
    values, code = np.unique(np.array(said, dtype=np.float64 if kind == "score" else np.str_), return_inverse=True)
    if len(values) > MOST_VALUES:
        raise BadInput(f"agreement: {len(values)} different {kind}s, at most {MOST_VALUES}: round them, or group them")
    return code, values.astype(np.float64) if kind == "score" else np.arange(len(values), dtype=np.float64)


def _ranking_codes(judgements: Sequence[Judgement], item: Ints) -> tuple[Ints, Ints, Ints]:
    """For each pair of answers of each ranking: its row, its unit, and 2, 1 or 0 for better, the same or worse."""
    ranks = [judgement.value if isinstance(judgement.value, tuple) else () for judgement in judgements]
    length = np.array([len(value) for value in ranks])
    longest = np.zeros(int(item.max(initial=-1)) + 1, np.int64)
    np.maximum.at(longest, item, length)
    for wrong in np.flatnonzero((length != longest[item]) | (length < 2) | (length > 9))[:1]:
        raise BadInput(
            f"agreement: item {judgements[wrong].item!r} has a ranking of {length[wrong]} answers by "
            f"{judgements[wrong].annotator!r} and one of {longest[item[wrong]]}: one item has the same 2 to 9 answers"
        )
    rows, units, values = [], [], []
    for size in np.unique(length):
        row = np.flatnonzero(length == size)
        table = np.array([ranks[i] for i in row])
        first, second = np.triu_indices(size, 1)
        values.append((np.sign(table[:, second] - table[:, first]) + 1).ravel())
        rows.append(np.repeat(row, len(first)))
        units.append((item[row][:, None] * _PAIRS + np.arange(len(first))).ravel())
    empty = [np.empty(0, np.int64)]
    return np.concatenate(rows or empty), np.concatenate(units or empty), np.concatenate(values or empty)
