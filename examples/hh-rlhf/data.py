"""The texts of this example: what the model reads, what it imitates, and the ten folds of human comparisons."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from heedlm.models.chat import Chat
from heedlm.records import Answer, Comparison, Demonstration, Document, Meta, Prompt, read, write

FOLDS = 10
LENGTH = 160  # tokens of a prompt with its answer; most of what tells two answers apart is in the answers
ANSWER = 110  # an answer's first tokens that are kept
QUESTION = 42  # the last user turn's last tokens that are kept


def texts(shared: Path, folder: Path, limit: int | None) -> None:
    """Write `corpus.jsonl`, `corpus_dev.jsonl` and `demonstrations.jsonl`; nothing of hh-rlhf is in them."""
    data = shared / "data"
    alpaca = read(data / "instructions/alpaca-52k.jsonl.gz", Demonstration, limit=limit).rows
    moss = read(data / "instructions/moss-conversations.jsonl.gz", Demonstration, limit=limit).rows
    # MOSS's system message is the same in every row and longer than the conversation it opens.
    english = [without_system(row) for row in moss if mostly_ascii(row)]
    stories = read(data / "corpora/tinystories-7k.jsonl.gz", Document, limit=limit).rows
    talks = alpaca + english
    documents = stories + [Document(id=t.id, text="\n".join(m.content for m in t.messages), meta=Meta()) for t in talks]
    random.Random(0).shuffle(documents)
    random.Random(1).shuffle(talks)
    write(folder / "corpus_dev.jsonl", documents[::100])
    write(folder / "corpus.jsonl", [d for place, d in enumerate(documents) if place % 100])
    write(folder / "demonstrations.jsonl", talks)


def without_system(row: Demonstration) -> Demonstration:
    """The conversation without its system message."""
    return row.model_copy(update={"messages": tuple(m for m in row.messages if m.role != "system")})


def mostly_ascii(row: Demonstration) -> bool:
    """Whether a conversation is in English: nine characters in ten are ASCII."""
    text = "".join(m.content for m in row.messages if m.role != "system")
    return sum(map(str.isascii, text)) > 0.9 * len(text)


def comparisons(shared: Path, limit: int | None = None) -> list[Comparison]:
    """All readable comparisons of both files, with their file as source; whole, nothing cut."""
    rows = []
    for name in ("harmless-base", "helpful-base"):
        found = read(shared / f"data/preferences/hh-rlhf/{name}.jsonl.gz", Comparison, limit=limit).rows
        rows += [row.model_copy(update={"meta": Meta(source=name)}) for row in found]
    return rows


def folds(rows: Sequence[Comparison]) -> list[list[int]]:
    """Ten groups of row numbers. Rows whose conversations open with the same words are in the same group."""
    groups: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        groups[row.prompt[0].content.strip().lower()].append(place)
    names = sorted(groups)
    random.Random(0).shuffle(names)
    made: list[list[int]] = [[] for _ in range(FOLDS)]
    for name in names:
        min(made, key=len).extend(groups[name])
    return made


def cut(rows: Sequence[Comparison], chat: Chat) -> Iterator[Comparison]:
    """Comparisons whose answers and last question fit; the stages drop the oldest turns that still do not fit."""
    for row in rows:
        answers = tuple(Answer(text=first(chat, a.text, ANSWER)) for a in row.answers)
        question = row.prompt[-1].model_copy(update={"content": last(chat, row.prompt[-1].content, QUESTION)})
        if answers[0].text == answers[1].text:  # only the part beyond the cut differs: keep the ends instead
            answers = tuple(Answer(text=last(chat, a.text, ANSWER)) for a in row.answers)
        yield row.model_copy(update={"answers": answers, "prompt": (*row.prompt[:-1], question)})


def prompts(rows: Sequence[Comparison], chat: Chat, limit: int) -> Iterator[Prompt]:
    """The prompts alone, without the oldest turns that do not fit."""
    for row in cut(rows, chat):
        yield Prompt(id=row.id, messages=tuple(chat.truncate(row.prompt, limit)), meta=Meta(source=row.meta.source))


def first(chat: Chat, text: str, limit: int) -> str:
    """The first `limit` tokens of a text."""
    ids = chat.response_ids(text)[:-1]
    return text if len(ids) <= limit else chat.decode(ids[: limit - 2]).strip()


def last(chat: Chat, text: str, limit: int) -> str:
    """The last `limit` tokens of a text."""
    ids = chat.response_ids(text)[:-1]
    return text if len(ids) <= limit else chat.decode(ids[2 - limit :]).strip("\ufffd ")
