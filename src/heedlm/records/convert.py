"""Write rows in the formats of others, where nothing that was said is lost.

`as_format` and `from_format` are each other's inverse on what was said: the turns, the answers with their
order of preference, the thumb, the text. A row that a format cannot hold is refused, not bent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from heedlm.records.faults import RowFault
from heedlm.records.formats import FORMATS, parsed_of
from heedlm.records.parsed import Parsed, Turn
from heedlm.records.reading import build_all
from heedlm.records.types import Row

T = TypeVar("T", bound=Row)

SHAREGPT_ROLES = {"user": "human", "assistant": "gpt", "system": "system"}


def as_format(row: Row, name: str) -> dict[str, Any]:
    """Return the row as the fields of another format.

    Args:
        row: A document, prompt, demonstration, comparison of two or more answers without ties, or thumb.
        name: "hh-rlhf", "sharegpt", "pairs" (TRL), "messages", "completions" (instruction and output, or
            TRL's prompt, completion, label), "prompts" or "text".

    Raises:
        RowFault: If the format cannot hold the row without loss; the message says what stands in the way.
    """
    parsed = parsed_of(row)
    if name not in _WRITERS:
        raise RowFault(f"{name!r} is no format to convert to: choose from {', '.join(_WRITERS)}")
    fields = _WRITERS[name](parsed)
    form = next(form for form in FORMATS if form.name == name)
    try:
        back = form.parse(fields)
    except RowFault as error:
        raise RowFault(f"{name} cannot hold it without loss: {error}") from error
    if len(back) != 1 or _said(back[0]) != _said(parsed):
        raise RowFault(f"{name} cannot hold it without loss: a text has the format's own marks or blanks around it")
    if "id" in parsed.more:
        fields["id"] = parsed.more["id"]
    if parsed.meta:
        fields["meta"] = parsed.meta
    return fields


def from_format(fields: Mapping[str, Any], name: str, kind: type[T]) -> list[T]:
    """Return the rows of `kind` that the fields of a format hold; most formats hold one.

    Raises:
        RowFault: If they hold none, or `name` is no format.
        pydantic.ValidationError: If what they hold is not valid.
    """
    form = next((form for form in FORMATS if form.name == name), None)
    if form is None:
        raise RowFault(f"{name!r} is no format: choose from {', '.join(form.name for form in FORMATS)}")
    return build_all(form, fields, kind)


def _said(parsed: Parsed) -> object:
    """Return what a row says, preferred answers first."""
    texts = [answer["text"] for answer in parsed.answers]
    if parsed.ranks is not None:
        texts = _ranked(parsed)
    return parsed.turns, texts, parsed.ranks is not None, parsed.up, parsed.text


def _ranked(parsed: Parsed) -> list[str]:
    ranks = parsed.ranks or []
    if len(set(ranks)) < len(ranks):
        raise RowFault("tied answers have no order to write down")
    return [parsed.answers[place]["text"] for place in sorted(range(len(ranks)), key=ranks.__getitem__)]


def _two(parsed: Parsed) -> tuple[str, str]:
    texts = _ranked(parsed)
    if len(texts) != 2:
        raise RowFault(f"chosen and rejected are two, the row ranks {len(texts)} answers")
    return texts[0], texts[1]


def _one(parsed: Parsed) -> str:
    if parsed.ranks is not None or len(parsed.answers) != 1:
        raise RowFault(f"one answer is needed, the row has {len(parsed.answers)}")
    return str(parsed.answers[0]["text"])


def _dialogue(parsed: Parsed) -> list[Turn]:
    """Return the whole conversation of a prompt or demonstration."""
    if not parsed.turns:
        raise RowFault("there is no conversation")
    return [*parsed.turns, _message(_one(parsed))] if parsed.answers else parsed.turns


def _message(text: str) -> Turn:
    return {"role": "assistant", "content": text}


def _label(parsed: Parsed) -> dict[str, Any]:
    return {} if parsed.up is None else {"label": parsed.up}


def _transcript(turns: Sequence[Turn], answer: str) -> str:
    if turns[0]["role"] == "system":
        raise RowFault("a transcript has no place for a system message")
    return "".join(f"\n\n{_SPEAKER[turn['role']]}: {turn['content']}" for turn in [*turns, _message(answer)])


_SPEAKER = {"user": "Human", "assistant": "Assistant"}


def _to_hh(parsed: Parsed) -> dict[str, Any]:
    chosen, rejected = _two(parsed)
    return {"chosen": _transcript(parsed.turns, chosen), "rejected": _transcript(parsed.turns, rejected)}


def _to_pairs(parsed: Parsed) -> dict[str, Any]:
    chosen, rejected = _two(parsed)
    return {"prompt": parsed.turns, "chosen": [_message(chosen)], "rejected": [_message(rejected)]}


def _to_sharegpt(parsed: Parsed) -> dict[str, Any]:
    def said(turn: Turn) -> dict[str, Any]:
        return {"from": SHAREGPT_ROLES[turn["role"]], "value": turn["content"]}

    if parsed.ranks is None:
        return {"conversations": [said(turn) for turn in _dialogue(parsed)], **_label(parsed)}
    chosen, rejected = _two(parsed)
    pair = {"chosen": said(_message(chosen)), "rejected": said(_message(rejected))}
    return {"conversations": [said(turn) for turn in parsed.turns], **pair}


def _to_messages(parsed: Parsed) -> dict[str, Any]:
    return {"messages": _dialogue(parsed), **_label(parsed)}


def _to_completions(parsed: Parsed) -> dict[str, Any]:
    """Instruction, history and output, of a ranking best first; a thumb as prompt, completion and label."""
    if parsed.up is not None:
        return {"prompt": parsed.turns, "completion": [_message(_one(parsed))], **_label(parsed)}
    if not parsed.turns or not parsed.answers:
        raise RowFault("an instruction and an output are needed")
    turns = list(parsed.turns)
    system = {"system": turns.pop(0)["content"]} if turns[0]["role"] == "system" else {}
    past = [[a["content"], b["content"]] for a, b in zip(turns[:-1:2], turns[1:-1:2], strict=True)]
    output: object = _one(parsed) if parsed.ranks is None else _ranked(parsed)
    return {"instruction": turns[-1]["content"], "input": "", "output": output, "history": past, **system}


def _to_prompts(parsed: Parsed) -> dict[str, Any]:
    if not parsed.turns or parsed.answers:
        raise RowFault("only a prompt without an answer fits")
    return {"prompt": parsed.turns}


def _to_text(parsed: Parsed) -> dict[str, Any]:
    if parsed.text is None:
        raise RowFault("only a document fits")
    return {"text": parsed.text}


_WRITERS: dict[str, Callable[[Parsed], dict[str, Any]]] = {
    "hh-rlhf": _to_hh,
    "sharegpt": _to_sharegpt,
    "pairs": _to_pairs,
    "messages": _to_messages,
    "completions": _to_completions,
    "prompts": _to_prompts,
    "text": _to_text,
}
