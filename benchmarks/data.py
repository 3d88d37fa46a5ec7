"""Real text with its natural lengths, as token ids: the same rows for every contestant.

The texts are those of the shared data folder (HEED_SHARED, or `shared` beside the repository): instructions of
alpaca, comparisons of hh-rlhf, stories of TinyStories. For the toy model, and for the tests, there is made-up text.
"""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from heedlm.errors import BadInput
from heedlm.models.chat import Chat
from heedlm.records import Comparison, Demonstration, Message, read
from heedlm.train.batching import Row

ROOT = Path(__file__).parents[1]
ALPACA = "data/instructions/alpaca-52k.jsonl.gz"
STORIES = "data/corpora/tinystories-7k.jsonl.gz"
PREFERENCES = "data/preferences/hh-rlhf/helpful-base.jsonl.gz"
# The first rows of alpaca train the 3 M model; what is measured comes after them.
TRAINED_ON = 16_000

T = TypeVar("T")


@dataclass(frozen=True)
class Pair:
    """A prompt with the preferred and the rejected answer, as token ids; the answers end with EOS."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def lengths(self) -> list[int]:
        """Tokens of both rows, prompt included."""
        return [len(self.prompt) + len(self.chosen), len(self.prompt) + len(self.rejected)]


def shared(name: str) -> Path:
    """A file of the shared data folder.

    Raises:
        BadInput: It is not there.
    """
    path = Path(os.environ.get("HEED_SHARED") or ROOT.parent / "shared") / name
    if not path.exists():
        raise BadInput(f"{path}: no such file: set HEED_SHARED to the folder that holds data/ and models/")
    return path


def instructions(start: int, count: int) -> list[Demonstration]:
    """Questions and answers of alpaca, from row `start` on."""
    return read(shared(ALPACA), Demonstration, limit=start + count).rows[start:]


def stories(count: int) -> list[str]:
    """The first stories of TinyStories."""
    with gzip.open(shared(STORIES), "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line, _ in zip(lines, range(count), strict=False)]


def demonstrations(chat: Chat, count: int, longest: int, *, toy: bool = False) -> list[Row]:
    """Conversations of at most `longest` tokens with their loss masks."""
    found = toy_demonstrations(4 * count) if toy else instructions(TRAINED_ON, 2 * count + 64)
    rows = (Row(*chat.conversation(d.messages)) for d in found)
    return _first((row for row in rows if len(row) <= longest), count)


def pairs(chat: Chat, count: int, longest: int, *, toy: bool = False) -> list[Pair]:
    """Comparisons whose rows have at most `longest` tokens; both answers follow the same prompt."""
    if toy:
        found = toy_comparisons(4 * count)
    else:
        # A few of its rows are known to be no comparisons: an empty answer, two different conversations.
        found = read(shared(PREFERENCES), Comparison, limit=3 * count + 64, max_bad_rows=0.05).rows
    made = (_pair(chat, comparison) for comparison in found)
    return _first((pair for pair in made if max(pair.lengths) <= longest), count)


def questions(chat: Chat, count: int, longest: int, *, toy: bool = False) -> list[tuple[Message, ...]]:
    """Conversations that wait for an answer, of at most `longest` tokens, none of them seen in training."""
    found = toy_demonstrations(4 * count) if toy else instructions(TRAINED_ON, 2 * count + 64)
    asked = (d.messages[:-1] for d in found)
    return _first((m for m in asked if len(chat.prompt_ids(m)) <= longest), count)


def story_starts(chat: Chat, count: int, seed: int, longest: int = 208) -> list[list[int]]:
    """Short stories without their last 8 to 128 tokens: a story model then ends at natural lengths."""
    draw = random.Random(seed)
    full = (chat.document_ids(text)[:-1] for text in stories(7000))
    cut = (ids[: len(ids) - draw.randint(8, 128)] for ids in full if len(ids) <= longest)
    return _first((ids for ids in cut if len(ids) >= 4), count)


def toy_demonstrations(count: int) -> list[Demonstration]:
    """Made-up questions and answers of varying length."""
    draw = random.Random(5)
    return [
        Demonstration(
            messages=(
                Message(role="user", content=_words(draw, 2, 9)),
                Message(role="assistant", content=_words(draw, 1, 12)),
            )
        )
        for _ in range(count)
    ]


def toy_comparisons(count: int) -> list[Comparison]:
    """Made-up comparisons of two answers of varying length."""
    draw = random.Random(6)
    rows = []
    for _ in range(count):
        asked = (Message(role="user", content=_words(draw, 2, 9)),)
        answers = [{"text": _words(draw, 1, 6) + " good"}, {"text": _words(draw, 1, 6) + " bad"}]
        rows.append(Comparison.model_validate({"prompt": asked, "answers": answers, "ranks": (1, 2)}))
    return rows


def _words(draw: random.Random, fewest: int, most: int) -> str:
    return " ".join(
        draw.choice(("frog", "moon", "river", "seven", "bread", "walk")) for _ in range(draw.randint(fewest, most))
    )


def _pair(chat: Chat, comparison: Comparison) -> Pair:
    first, second = sorted(range(2), key=lambda i: comparison.ranks[i])
    answers = [chat.response_ids(comparison.answers[i].text) for i in (first, second)]
    return Pair(chat.prompt_ids(comparison.prompt), *answers)


def _first(found: Iterator[T], count: int) -> list[T]:
    kept = [item for item, _ in zip(found, range(count), strict=False)]
    if len(kept) < count:
        raise BadInput(f"only {len(kept)} rows of {count} are short enough: raise the longest length")
    return kept


def lengths(rows: Sequence[Sequence[int]] | Sequence[Row]) -> list[int]:
    """Tokens of each row."""
    return [len(row) for row in rows]
