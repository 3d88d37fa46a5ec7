"""What annotation tools have in common: a record shows a prompt and answers, and people reply to questions about it.

The exports name fields and questions freely and leave out the labelling interface, so that a field's part is told by
its name (`Columns` says it where the name does not) and a question's kind by the value of the reply. What stays open
is a fault with its remedy, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from heedlm.records.faults import RowFault
from heedlm.records.formats import PROMPT_COLUMNS, TRUTHS, asked
from heedlm.records.parsed import Parsed, Turn, meta_of
from heedlm.records.survey import words as count_words
from heedlm.records.types import Criterion, Strength

PROMPTS = (*PROMPT_COLUMNS, "input", "context", "messages", "chat", "conversation", "dialogue")
ANSWER = re.compile(
    r"(answer|response|reply|completion|output|generation|candidate|option|text|summary|left|right|chosen|"
    r"rejected)[\s_-]*(\d{1,2}|[a-i])?",
    re.IGNORECASE,
)
TIES = {"tie", "tied", "equal", "same", "both", "neither", "draw", "none", "aboutthesame"}
YES = {"good", "yes", "up", "thumbsup", "like", "positive", "correct", "accept", "accepted", "helpful", "👍"}
NO = {"bad", "no", "down", "thumbsdown", "dislike", "negative", "incorrect", "reject", "rejected", "unhelpful", "👎"}
COMMENTS = {"reason", "reasons", "comment", "comments", "note", "notes", "explanation", "rationale", "justification"}
WRITTEN = {"demonstration", "correction", "corrected", "completion", "response", "answer", "rewrite", "edit", "written"}
LETTERED = r"(?:answer|response|reply|completion|option|model|output|assistant|candidate|text)?([a-i])"
PLACES = {"left": 0, "right": 1, "first": 0, "second": 1, "third": 2}


@dataclass(frozen=True)
class Columns:
    """Which fields and questions mean what, where their names do not say it.

    `labels` gives a tool's own words a meaning: "good", "bad", "tie", or the name of an answer's field. `written`
    names the questions whose replies are demonstrations.
    """

    prompt: str | None = None
    answers: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """One person's reply to one question; `where` is its place in the record, `sort` its kind where the tool says it.

    `left_out` tells why a reply is no judgement: a draft, a skipped task, a prediction.
    """

    where: str
    question: str
    value: Any
    annotator: str | None
    sort: str | None = None
    left_out: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class Shown:
    """What the record showed: the conversation, and the answers by the names of their fields."""

    turns: list[Turn]
    names: list[str]
    texts: list[str]
    models: list[str | None]
    meta: dict[str, Any]
    in_order: bool = False  # the answers were shown in this order


def shown(fields: Mapping[str, Any], about: Mapping[str, Any], columns: Columns) -> Shown:
    """The prompt and the answers among a record's fields.

    Args:
        fields: What annotators saw, by name.
        about: The record's metadata; `NAME_model` names the model of answer NAME.
        columns: What the names do not say.

    Raises:
        RowFault: No field is a prompt, or a named one is missing.
    """
    name = columns.prompt or next((name for name in PROMPTS if fields.get(name)), None)
    if name is None or name not in fields:
        raise RowFault(f"no prompt: expected a field {name or ', '.join(PROMPTS[:5])}; name it with prompt=")
    if missing := [answer for answer in columns.answers if answer not in fields]:
        raise RowFault(f"no field {missing[0]!r}, which answers= names")
    turns = asked({"prompt": fields[name], **{key: fields[key] for key in ("system", "history") if key in fields}})
    names = list(columns.answers) or sorted(
        (key for key, value in fields.items() if key != name and isinstance(value, str) and ANSWER.fullmatch(key)),
        key=_natural,
    )
    for key in names:
        if not isinstance(fields[key], str):
            raise RowFault(f"{key} is not text")
    models = [about.get(f"{key}_model", about.get(f"{key}-model")) for key in names]
    return Shown(
        turns=turns,
        names=names,
        texts=[fields[key] for key in names],
        models=[model if isinstance(model, str) else None for model in models],
        meta=meta_of(about),
    )


def judgements(
    replies: Sequence[Reply], seen: Shown, columns: Columns
) -> Iterator[tuple[Reply, Parsed | RowFault | None]]:
    """What each reply says; None where it only adds to another reply of the same person (a reason, flags, a strength).

    Replies of one person to one record belong together: labels without an answer are the flags of that person's
    scores, comments the reason of the thumbs, a strength that of the comparisons. A question that names a criterion
    (overall, helpful, honest, harmless) asks by it.
    """
    more: dict[str | None, dict[str, Any]] = {}
    for reply in replies:
        if (extra := _extra(reply)) is not None:
            more.setdefault(reply.annotator, {}).update(extra)
    for reply in replies:
        if _extra(reply) is not None:
            yield reply, None
            continue
        try:
            parsed = _parsed(reply, seen, columns)
        except RowFault as fault:
            yield reply, fault
            continue
        # What a kind of row has no field for is left behind when the row is built.
        parsed.more |= more.get(reply.annotator, {})
        parsed.more |= {} if reply.annotator is None else {"annotator": reply.annotator}
        parsed.more |= {} if reply.id is None else {"id": reply.id}
        if named := [name for name in get_args(Criterion) if name in reply.question.lower()]:
            parsed.more["criterion"] = named[0]
        parsed.meta = dict(seen.meta)
        yield reply, parsed


def _extra(reply: Reply) -> dict[str, Any] | None:
    value, words = reply.value, set(re.split(r"[\W_]+", reply.question.lower()))
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(one, str) and words & COMMENTS:
        return {"reason": one}
    if isinstance(one, str) and "strength" in words and one in get_args(Strength):
        return {"strength": one}
    if words & {"flags", "flag", "problems", "issues"} and isinstance(value, list | str):
        return {"flags": sorted({value} if isinstance(value, str) else {str(flag) for flag in value})}
    return None


def _parsed(reply: Reply, seen: Shown, columns: Columns) -> Parsed:
    value, sort = reply.value, reply.sort
    if sort is None:
        sort = _sort_of(reply, seen, columns)
    if sort == "ranking":
        return _ranking(value, seen, columns)
    if sort == "rating":
        return _rating(reply.question, value, seen)
    if sort == "text":
        text = value[0] if isinstance(value, list) and len(value) == 1 else value
        if not isinstance(text, str):
            raise RowFault("a written answer is not one text")
        return Parsed(list(seen.turns), [{"text": text}])
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str | bool | int):
        raise RowFault(f"{str(value)[:60]!r} is no label; several labels are read from a question named flags")
    return _choice(str(value), seen, columns)


def _sort_of(reply: Reply, seen: Shown, columns: Columns) -> str:
    """The kind of a reply, from its value."""
    value = reply.value
    if isinstance(value, Mapping) and {"rank", "value"} <= value.keys():
        return "ranking"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "rating"
    if isinstance(value, list) and len(value) > 1:
        return "ranking"
    words = set(re.split(r"[\W_]+", reply.question.lower()))
    if reply.question in columns.written:
        return "text"
    # "response: Answer B is better" is a choice, "response: Because the sea …" an answer.
    if isinstance(value, str) and words & WRITTEN and count_words(value) > 3 and which(value, seen.names) is None:
        return "text"
    return "choice"


def _answers(seen: Shown) -> list[dict[str, Any]]:
    return [
        {"text": text} if model is None else {"text": text, "model": model}
        for text, model in zip(seen.texts, seen.models, strict=True)
    ]


def _ranking(value: Any, seen: Shown, columns: Columns) -> Parsed:
    """A list of names, best first; a list of {value, rank}; or {value: […], rank: […]}. Equal ranks are a tie."""
    if isinstance(value, Mapping) and "buckets" in value:
        raise RowFault(f"the items are sorted into {', '.join(map(str, value['buckets']))}, which have no order")
    if isinstance(value, Mapping):
        entries = list(zip(_list(value.get("value")), _list(value.get("rank")), strict=False))
    elif isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value):
        entries = [(entry.get("value"), entry.get("rank", place)) for place, entry in enumerate(value, start=1)]
    else:
        entries = [(name, place) for place, name in enumerate(_list(value), start=1)]
    ranks: dict[int, int] = {}
    for name, rank in entries:
        at = _answer(str(name), seen, columns)
        if not isinstance(rank, int) or isinstance(rank, bool):
            raise RowFault(f"rank {rank!r} of {name!r} is no whole number")
        if at in ranks:
            raise RowFault(f"{name!r} is ranked twice")
        ranks[at] = rank
    if missing := [name for at, name in enumerate(seen.names) if at not in ranks]:
        raise RowFault(f"{missing[0]!r} is not ranked")
    return _compared(seen, [ranks[at] for at in range(len(seen.names))])


def _compared(seen: Shown, ranks: list[int]) -> Parsed:
    lowest = min(ranks, default=1)
    parsed = Parsed(list(seen.turns), _answers(seen), ranks=[rank - lowest + 1 for rank in ranks])
    if seen.in_order:
        parsed.more["order_shown"] = list(range(len(ranks)))
    return parsed


def _rating(question: str, value: Any, seen: Shown) -> Parsed:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or not 1 <= value <= 7:
        raise RowFault(f"score {value!r} is no whole number from 1 to 7: rescale it")
    at = 0 if len(seen.names) == 1 else which(question, seen.names, anywhere=True)
    if at is None:
        raise RowFault(f"a score, but the record has {len(seen.names)} answers and the question names none of them")
    return Parsed(list(seen.turns), [_answers(seen)[at]], score=int(value))


def _choice(word: str, seen: Shown, columns: Columns) -> Parsed:
    word = columns.labels.get(word, word)
    key = _key(word)
    if len(seen.names) > 1:
        if key in TIES:
            return _compared(seen, [1] * len(seen.names))
        best = _answer(word, seen, columns)
        return _compared(seen, [1 if at == best else 2 for at in range(len(seen.names))])
    if len(seen.names) == 1 and (key in YES or key in NO or key in TRUTHS):
        return Parsed(list(seen.turns), _answers(seen), up=key in YES or TRUTHS.get(key, False))
    what = "neither good nor bad" if seen.names else "a label, but the record shows no answers"
    raise RowFault(
        f"{word[:60]!r} is {what}: say what it means with labels=, or name the question in written= if it is an answer"
    )


def _answer(word: str, seen: Shown, columns: Columns) -> int:
    at = which(columns.labels.get(word, word), seen.names)
    if at is None:
        fields = ", ".join(seen.names) or "(none found; name them with answers=)"
        raise RowFault(f"{word[:60]!r} names none of the answers {fields}: say which one with labels=")
    return at


def which(word: str, names: Sequence[str], *, anywhere: bool = False) -> int | None:
    """The answer that a word means: by its field's name, its number or letter, or its side; None if it is not clear.

    Args:
        word: "response-1", "reply_2", "A", "left", "Answer B is better".
        names: Names of the answers' fields, in order.
        anywhere: Whether the name may be part of a longer word, as in "response_1_quality".
    """
    key, keys = re.sub(r"(is)?(better|preferred|best|wins)$", "", _key(word)), [_key(name) for name in names]
    if key in keys:
        return keys.index(key)
    if anywhere:
        inside = [at for at, name in enumerate(keys) if name in key]
        if len(inside) == 1:
            return inside[0]
        number = re.search(r"\d+", key)
        key = number[0] if number else key
    mark = re.fullmatch(LETTERED, key) or re.search(r"(\d+)$", key)
    if mark is None:
        place = PLACES.get(key, -1)
        return place if 0 <= place < len(names) else None
    ends = [at for at, name in enumerate(keys) if (own := re.fullmatch(LETTERED, name) or re.search(r"(\d+)$", name))
            and own[1] == mark[1]]  # fmt: skip
    if len(ends) == 1:
        return ends[0]
    # A letter, or a number among names that bear none, counts the answers.
    place = ord(mark[1]) - ord("a") if mark[1].isalpha() else int(mark[1]) - 1
    counts = mark[1].isalpha() or not any(re.search(r"\d$", name) for name in keys)
    return place if counts and 0 <= place < len(names) else None


def _key(word: str) -> str:
    plain = re.sub(r"[\s_\-.:]+", "", word).lower()
    return plain or word


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts answer2 before answer10."""
    return [(int(part or 0), "") if part.isdigit() else (-1, part.lower()) for part in re.split(r"(\d+)", name)]


def _list(value: object) -> Iterable[Any]:
    return value if isinstance(value, list) else []
