"""The formats rows come in: Heed's own and those people already have.

A format recognises a row by its fields and reads it into `Parsed`; formats are tried in the order of
`FORMATS`, each more particular than those after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from heedlm.records.faults import RowFault
from heedlm.records.parsed import (
    JUDGED,
    OF_COMPARISONS,
    OF_STEPS,
    Parsed,
    Turn,
    dialogue,
    id_of,
    meta_of,
    turn,
    turns_of,
)
from heedlm.records.types import Answers, Comparison, Demonstration, Document, Prompt, Rating, Row, Steps, Thumb

Fields = Mapping[str, Any]

PROMPT_COLUMNS = ("prompt", "instruction", "question", "query", "goal")
ANSWER_COLUMNS = ("completion", "response", "answer", "output")
THUMB_COLUMNS = ("label", "kto_tag", "tag", "up")
TRUTHS = {"true": True, "1": True, "false": False, "0": False}
SPEAKERS = re.compile(r"(?:^|\n\n)(Human|Assistant):")


@dataclass(frozen=True)
class Format:
    """One way to write rows down."""

    name: str
    example: str
    recognise: Callable[[Fields], bool]
    parse: Callable[[Fields], list[Parsed]]


def format_of(row: Fields) -> Format | None:
    """Return the first format that recognises a row's fields."""
    return next((form for form in FORMATS if form.recognise(row)), None)


# ------------------------------------------------------------------------------------------ Heed's own


def native_kind(row: Fields) -> type[Row] | None:
    """Return the type whose own fields these are, or None."""
    keys = row.keys()
    if "messages" in keys:
        messages = row["messages"]
        last = messages[-1] if isinstance(messages, list) and messages else {}
        kind = Demonstration if isinstance(last, dict) and last.get("role") == "assistant" else Prompt
        return kind if keys <= kind.model_fields.keys() else None
    if "text" in keys:
        return Document if keys <= Document.model_fields.keys() else None
    # These names are no other format's, so a field too many is a mistake to tell, not another format.
    if "answers" in keys and isinstance(row.get("prompt"), list):
        return Comparison if "ranks" in keys else Answers
    if "steps" in keys and isinstance(row.get("prompt"), list):
        return Steps
    if isinstance(row.get("answer"), dict):
        return Rating if "score" in keys else Thumb
    return None


def _native(row: Fields) -> list[Parsed]:
    kind = native_kind(row)
    return [parsed_of(kind.model_validate(row))] if kind else []


def parsed_of(row: Row) -> Parsed:
    """Return what one of Heed's own rows says; ids made from the content are left behind."""
    fields = row.model_dump(exclude_defaults=True)
    more = {key: fields[key] for key in (*JUDGED, *OF_COMPARISONS, *OF_STEPS, "reason", "flags") if key in fields}
    if "id" in row.model_fields_set:
        more["id"] = row.id
    if isinstance(row, Document):
        parsed = Parsed(text=row.text)
    elif isinstance(row, Prompt | Demonstration):
        parsed = dialogue(list(fields["messages"]))
    elif isinstance(row, Steps):
        parsed = Parsed(turns=list(fields["prompt"]), answers=[{"text": "".join(row.steps)}])
        parsed.up = False if -1 in row.labels else None  # so that a wrong answer is shown to nobody
    else:
        answers = fields["answers"] if "answers" in fields else [fields["answer"]]
        parsed = Parsed(turns=list(fields["prompt"]), answers=list(answers))
        parsed.ranks = list(row.ranks) if isinstance(row, Comparison) else None
        parsed.up = row.up if isinstance(row, Thumb) else None
        parsed.score = row.score if isinstance(row, Rating) else None
    parsed.more, parsed.meta = more, fields.get("meta", {})
    return parsed


# ------------------------------------------------------------------------------------------ transcripts


def transcript(text: str) -> list[Turn]:
    """Return the turns of "\\n\\nHuman: … \\n\\nAssistant: …", blanks around each text removed."""
    parts = SPEAKERS.split(text)
    if parts[0].strip():
        raise RowFault("the transcript does not start with 'Human:'")
    return [turn(who.lower(), said.strip()) for who, said in zip(parts[1::2], parts[2::2], strict=True)]


def _is_transcript(value: object) -> bool:
    return isinstance(value, str) and value.lstrip().startswith("Human:")


def _hh(row: Fields) -> list[Parsed]:
    chosen, rejected = (transcript(f"\n\n{row[name].lstrip()}") for name in ("chosen", "rejected"))
    return [_finish(_apart(chosen, rejected), row)]


def _apart(chosen: list[Turn], rejected: list[Turn]) -> Parsed:
    """Return the prompt that two whole conversations share and the one answer in which each goes on."""
    if chosen == rejected:
        raise RowFault("chosen equal to rejected")
    same = 0
    while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
        same += 1
    ends = [chosen[same:], rejected[same:]]
    if any(len(end) != 1 or end[0]["role"] != "assistant" for end in ends):
        raise RowFault("chosen and rejected differ in more than the last answer")
    return Parsed(chosen[:same], [{"text": end[0]["content"]} for end in ends], ranks=[1, 2])


# ------------------------------------------------------------------------------------------ columns


def asked(row: Fields) -> list[Turn]:
    """Return the turns that a row's prompt column, with system, history and input if there are, asks."""
    name = next((name for name in PROMPT_COLUMNS if name in row), None)
    if name is None:
        raise RowFault(f"no prompt: expected a field {', '.join(PROMPT_COLUMNS)}")
    value = row[name]
    if isinstance(value, list):
        return turns_of(value, name)
    if not isinstance(value, str):
        raise RowFault(f"{name} is not text")
    if _is_transcript(value):
        turns = transcript(f"\n\n{value.lstrip()}")
        return turns[:-1] if turns[-1] == {"role": "assistant", "content": ""} else turns
    turns = [turn("system", row["system"])] if isinstance(row.get("system"), str) and row["system"] else []
    for exchange in row.get("history") or []:
        if not isinstance(exchange, list) or len(exchange) != 2:
            raise RowFault("history holds something that is not [question, answer]")
        turns += [turn("user", exchange[0]), turn("assistant", exchange[1])]
    extra = row.get("input") if name == "instruction" else None
    return [*turns, turn("user", f"{value}\n{extra}" if isinstance(extra, str) and extra.strip() else value)]


def thumb(row: Fields) -> bool | None:
    """Return the thumb that a row's label gives, or None if it has none.

    Raises:
        RowFault: If there is a label that is neither true nor false.
    """
    name = next((name for name in THUMB_COLUMNS if name in row), None)
    if name is None:
        return None
    value = TRUTHS.get(str(row[name]).strip().lower())
    if value is None:
        raise RowFault(f"{name} is {row[name]!r}, expected true or false")
    return value


def _finish(parsed: Parsed, row: Fields) -> Parsed:
    parsed.more |= id_of(row)
    parsed.meta = meta_of(row)
    return parsed


def _answer_text(value: object, name: str) -> str:
    """Return the text of an answer given as text, as one message or as a list of one message."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        message = turns_of([value], name)[0]
        if message["role"] != "assistant":
            raise RowFault(f"roles out of order: {name} is from {message['role']!r}, expected 'assistant'")
        return str(message["content"])
    if not isinstance(value, str):
        raise RowFault(f"{name} is not text and not a message")
    return value


def _pair(row: Fields) -> list[Parsed]:
    chosen, rejected = row["chosen"], row["rejected"]
    if all(isinstance(side, list) and len(side) > 1 for side in (chosen, rejected)):
        parsed = _apart(turns_of(chosen, "chosen"), turns_of(rejected, "rejected"))
    elif not any(name in row for name in PROMPT_COLUMNS) and isinstance(chosen, list):
        raise RowFault("no prompt: chosen and rejected hold one message each and there is no field prompt")
    else:
        answers = [{"text": _answer_text(row[name], name)} for name in ("chosen", "rejected")]
        parsed = Parsed(asked(row), answers, ranks=[1, 2])
    return [_finish(parsed, row)]


def _completion(row: Fields) -> list[Parsed]:
    name = next(name for name in ANSWER_COLUMNS if name in row)
    value = row[name]
    if name == "output" and isinstance(value, list):  # ranked, best first
        if not value or not all(isinstance(answer, str) for answer in value):
            raise RowFault("output is a list of something else than answers")
        parsed = Parsed(asked(row), [{"text": answer} for answer in value])
        parsed.ranks = list(range(1, len(value) + 1))
    else:
        parsed = Parsed(asked(row), [{"text": _answer_text(value, name)}], up=thumb(row))
    return [_finish(parsed, row)]


def _prompt(row: Fields) -> list[Parsed]:
    return [_finish(Parsed(turns=asked(row)), row)]


def _messages(row: Fields) -> list[Parsed]:
    parsed = dialogue(turns_of(row["messages"], "messages"))
    parsed.up = thumb(row)
    return [_finish(parsed, row)]


def _text(row: Fields) -> list[Parsed]:
    if not isinstance(row["text"], str):
        raise RowFault("text is not text")
    return [_finish(Parsed(text=row["text"].removeprefix("\ufeff")), row)]


# ------------------------------------------------------------------------------------------ named sets


def _sharegpt(row: Fields) -> list[Parsed]:
    turns = turns_of(row["conversations"], "conversations")
    if isinstance(row.get("system"), str) and row["system"]:
        turns.insert(0, turn("system", row["system"]))
    if "chosen" in row and "rejected" in row:
        answers = [{"text": _answer_text(row[name], name)} for name in ("chosen", "rejected")]
        return [_finish(Parsed(turns, answers, ranks=[1, 2]), row)]
    parsed = dialogue(turns)
    parsed.up = thumb(row)
    return [_finish(parsed, row)]


def _instances(row: Fields) -> list[Parsed]:
    """One instruction with several inputs and outputs."""
    if not row["instances"] or not all(isinstance(instance, dict) for instance in row["instances"]):
        raise RowFault("instances is not a list of {input, output}")
    several = len(row["instances"]) > 1
    rows = []
    for place, instance in enumerate(row["instances"]):
        one = _completion({"instruction": row["instruction"], "output": "", **instance})[0]
        rows.append(_finish(one, row))
        if several and "id" in one.more:
            one.more["id"] += f"-{place}"
    return rows


def _moss(row: Fields) -> list[Parsed]:
    """Turns named turn_1…, each text between a speaker's marker and an end marker."""
    turns = []
    if isinstance(row.get("meta_instruction"), str) and row["meta_instruction"].strip():
        turns.append(turn("system", row["meta_instruction"].strip()))
    for name, said in row["chat"].items():
        if not isinstance(said, dict):
            raise RowFault(f"chat.{name} is not a turn")
        for speaker, role in (("Human", "user"), ("MOSS", "assistant")):
            if not isinstance(said.get(speaker), str):
                raise RowFault(f"chat.{name} has no field '{speaker}'")
            turns.append(turn(role, re.sub(r"^<\|\w+\|>: ?|<eo\w>\s*$", "", said[speaker].strip()).strip()))
    return [_finish(dialogue(turns), row)]


def _tree(row: Fields) -> list[Parsed]:
    """A tree of messages: at each of the user's turns, the path to it and the replies with their ranks."""
    found: list[Parsed] = []
    waiting: list[tuple[list[Turn], Fields]] = [([], row["prompt"])]
    while waiting:
        path, node = waiting.pop(0)
        path = [*path, turn(node.get("role"), node.get("text"))]
        replies = [reply for reply in node.get("replies") or [] if not reply.get("deleted")]
        waiting += [(path, reply) for reply in replies]
        if path[-1]["role"] != "user" or (not replies and found):
            continue
        answers = [{"text": reply.get("text"), "model": reply.get("model_name")} for reply in replies]
        ranks = [reply.get("rank") for reply in replies]
        parsed = Parsed(path, answers)
        if all(isinstance(rank, int) for rank in ranks) and len(ranks) > 1:
            parsed.ranks = [rank + 1 for rank in ranks if rank is not None]
        parsed.meta = {key: node[key] for key in ("lang",) if isinstance(node.get(key), str)}
        found.append(parsed)
    return found


def _has(*names: str) -> Callable[[Fields], bool]:
    return lambda row: all(name in row for name in names)


def _any(names: tuple[str, ...], *others: tuple[str, ...]) -> Callable[[Fields], bool]:
    return lambda row: all(any(name in row for name in some) for some in (names, *others))


FORMATS: list[Format] = [
    Format("heed", '{"prompt": [messages], "answers": [{"text": …}], "ranks": [1, 2]}',
           lambda row: native_kind(row) is not None, _native),
    Format("hh-rlhf", r'{"chosen": "\n\nHuman: …\n\nAssistant: …", "rejected": …}',
           lambda row: all(_is_transcript(row.get(name)) for name in ("chosen", "rejected")), _hh),
    Format("sharegpt", '{"conversations": [{"from": "human", "value": …}], "chosen": {…}, "rejected": {…}}',
           _has("conversations"), _sharegpt),
    Format("moss", '{"meta_instruction": …, "chat": {"turn_1": {"Human": …, "MOSS": …}}}',
           lambda row: isinstance(row.get("chat"), dict), _moss),
    Format("message-tree", '{"prompt": {"text": …, "role": "prompter", "replies": [{"rank": 0, …}]}}',
           lambda row: isinstance(row.get("prompt"), dict) and "replies" in row["prompt"], _tree),
    Format("pairs", '{"prompt": text or messages, "chosen": …, "rejected": …} (TRL)',
           _has("chosen", "rejected"), _pair),
    Format("messages", '{"messages": [{"role": "user", "content": …}], "label": true}',
           _has("messages"), _messages),
    Format("instances", '{"instruction": …, "instances": [{"input": …, "output": …}]}',
           lambda row: "instruction" in row and isinstance(row.get("instances"), list), _instances),
    Format("completions", '{"prompt" or "instruction": …, "completion" or "output": …, "label": true}',
           _any(PROMPT_COLUMNS, ANSWER_COLUMNS), _completion),
    Format("prompts", '{"prompt", "question" or "goal": …}', _any(PROMPT_COLUMNS), _prompt),
    Format("text", '{"text": …}', _has("text"), _text),
]  # fmt: skip
