"""What rows hold, in numbers: lengths, turns, languages, repeats, contradictions, overlap with other rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

from heedlm.records.reading import Rows
from heedlm.records.types import (
    Answer,
    Answers,
    Comparison,
    Demonstration,
    Document,
    Message,
    Prompt,
    Rating,
    Row,
    Steps,
    Thumb,
    content_id,
)

# A run of letters and digits is a word; in scripts without spaces, each character is.
UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+(?:['’][^\W_{UNSPACED}]+)*")
SCRIPTS = {
    "zh": re.compile(r"[\u3400-\u9fff\uf900-\ufaff]"),
    "ja": re.compile(r"[\u3040-\u30ff]"),
    "ko": re.compile(r"[\uac00-\ud7af]"),
    "cyrillic": re.compile(r"[\u0400-\u04ff]"),
    "arabic": re.compile(r"[\u0600-\u06ff]"),
    "latin": re.compile(r"[A-Za-z\u00c0-\u024f]"),
}
ENGLISH = frozenset(
    "a an and are as at be but by can do for from give have how i in is it me my not of on one or that the "
    "there they this to was were what when which who why will with would you your".split()
)
LOOKED_AT = 400  # characters of a text from which its language is guessed


def words(text: str) -> int:
    """Count words; a Chinese, Japanese or Korean character counts as one."""
    return sum(1 for _ in WORD.finditer(text))


def language(text: str) -> str:
    """Guess a text's language from its script; in Latin script, from the commonest English words.

    Returns:
        "en", "zh", "ja", "ko", a script's name ("cyrillic", "arabic", "latin"), or "none" without letters.
    """
    start = text[: 2 * LOOKED_AT]
    found = {name: len(script.findall(start)) for name, script in SCRIPTS.items()}
    # A Chinese character says about as much as three letters; kana among them make it Japanese.
    weight = {name: count * (3 if name in {"zh", "ja", "ko"} else 1) for name, count in found.items()}
    best = max(weight, key=lambda name: weight[name])
    if not weight[best]:
        return "none"
    if best == "zh" and found["ja"] * 5 > found["zh"]:
        return "ja"
    if best == "latin":
        spoken = re.findall(r"[a-z']+", start.lower())
        return "en" if sum(word in ENGLISH for word in spoken) * 8 >= len(spoken) else "latin"
    return best


def turns(row: Row) -> tuple[Message, ...]:
    """Return the messages up to the last user turn; of a document none."""
    if isinstance(row, Demonstration):
        return row.messages[:-1]
    if isinstance(row, Prompt):
        return row.messages
    if isinstance(row, Answers | Comparison | Rating | Steps | Thumb):
        return row.prompt
    return ()


def answers(row: Row) -> tuple[Answer, ...]:
    """Return the answers; of a document its text, of a prompt none."""
    if isinstance(row, Document):
        return (Answer(text=row.text),)
    if isinstance(row, Demonstration):
        return (Answer(text=row.messages[-1].content),)
    if isinstance(row, Answers | Comparison):
        return row.answers
    if isinstance(row, Steps):
        return (Answer(text="".join(row.steps)),)
    return (row.answer,) if isinstance(row, Rating | Thumb) else ()


def spread(values: Iterable[int]) -> dict[str, float]:
    """Return min, median, p95 (nearest rank), max and total; nothing where there are no values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    middle = median(ordered)
    return {
        "min": ordered[0],
        "median": int(middle) if middle == int(middle) else middle,
        "p95": ordered[-(-len(ordered) * 95 // 100) - 1],
        "max": ordered[-1],
        "total": sum(ordered),
    }


def lengths(rows: Sequence[Row], measure: Callable[[str], int]) -> dict[str, dict[str, float]]:
    """Return the spread of the lengths of prompts (all their turns together) and of single answers or texts."""
    asked = [sum(measure(message.content) for message in turns(row)) for row in rows if turns(row)]
    told = [measure(answer.text) for row in rows for answer in answers(row)]
    named = {"prompt": spread(asked), "text" if not asked else "answer": spread(told)}
    return {name: values for name, values in named.items() if values}


def languages(rows: Sequence[Row]) -> dict[str, int]:
    """Count rows by language: as their meta says, else guessed from the last user turn and the answer."""

    def of(row: Row) -> str:
        if row.meta.lang:
            return row.meta.lang
        asked = [message.content[:LOOKED_AT] for message in turns(row)[-1:]]
        return language("\n".join([*asked, *(answer.text[:LOOKED_AT] for answer in answers(row)[:1])]))

    return dict(Counter(of(row) for row in rows).most_common())


def prompt_key(row: Row) -> str:
    """Return what makes two prompts the same: their turns, but for case and blanks."""
    return content_id(*([message.role, _plain(message.content)] for message in turns(row)))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def repeats(rows: Rows[Any]) -> list[tuple[int, int]]:
    """Return (line, first line) of every row that says exactly what an earlier one says."""
    first: dict[str, int] = {}
    found = []
    for row, line in zip(rows.rows, rows.lines, strict=True):
        key = content_id(*row.content())
        if key in first:
            found.append((line, first[key]))
        else:
            first[key] = line
    return found


def contradictions(rows: Rows[Any]) -> list[tuple[int, int]]:
    """Return (line, earlier line) where two comparisons rank the same two answers in opposite order."""
    seen: dict[tuple[str, str, str], int] = {}
    found = []
    for row, line in zip(rows.rows, rows.lines, strict=True):
        if not isinstance(row, Comparison):
            continue
        asked = f"{prompt_key(row)} {row.criterion}"
        texts = [answer.text for answer in row.answers]
        opposite = [seen.get((asked, texts[j], texts[i])) for i, j in row.pairs()]
        found += [(line, earlier) for earlier in opposite if earlier is not None][:1]
        seen |= {(asked, texts[i], texts[j]): line for i, j in row.pairs()}
    return found


def overlap(rows: Sequence[Row], others: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Count rows whose prompt, and answers or texts of at least five words, are also among `others`.

    Case and blanks do not count. Short answers ("Yes.") are alike without having been copied.
    """

    def told(row: Row) -> set[str]:
        return {_plain(answer.text) for answer in answers(row) if words(answer.text) >= 5}

    asked = {prompt_key(row) for row in others if turns(row)}
    texts = set().union(*(told(row) for row in others))
    found = {
        "prompts": (sum(prompt_key(row) in asked for row in rows if turns(row)), sum(1 for row in rows if turns(row))),
        "answers or texts": (sum(bool(told(row) & texts) for row in rows), sum(1 for row in rows if told(row))),
    }  # fmt: skip
    return {name: {"shared": both, "of": of, "share": both / of} for name, (both, of) in found.items() if of}


def longer_wins(rows: Iterable[Row]) -> float | None:
    """Return the share of pairs in which the better answer is the longer one (in characters; equal: half)."""
    wins, pairs = 0.0, 0
    for row in rows:
        if not isinstance(row, Comparison):
            continue
        for better, worse in row.pairs():
            difference = len(row.answers[better].text) - len(row.answers[worse].text)
            wins += 0.5 if difference == 0 else float(difference > 0)
            pairs += 1
    return wins / pairs if pairs else None


def notes(rows: Rows[Any]) -> list[str]:
    """Return what is odd about the rows taken together, one sentence each."""
    found = []
    ups = {row.up for row in rows if isinstance(row, Thumb)}
    if len(ups) == 1 and len(rows) > 1:
        found.append(f"all labels are {str(ups.pop()).lower()}: there is nothing to tell good from bad")
    scores = {row.score for row in rows if isinstance(row, Rating)}
    if len(scores) == 1 and len(rows) > 1:
        found.append(f"all scores are {scores.pop()}: there is nothing to tell good from bad")
    tied = sum(isinstance(row, Comparison) and not row.pairs() for row in rows)
    if tied:
        found.append(f"{tied} comparisons rank all their answers equal")
    told = Counter(answer.text.strip() for row in rows for answer in answers(row))
    text, times = told.most_common(1)[0] if told else ("", 0)
    if times > max(10, 0.05 * sum(told.values())):
        found.append(f"{times} of {sum(told.values())} answers are the same: {text[:60]!r}")
    cut = sum(not answer.ended for row in rows for answer in answers(row))
    if cut:
        found.append(f"{cut} answers were cut at the length limit")
    refused = sum(row.meta.consent is False or getattr(row, "consent", None) is False for row in rows)
    if refused:
        found.append(f"{refused} rows come without consent")
    alike = sum(len({answer.text for answer in answers(row)}) < len(answers(row)) for row in rows)
    if alike:
        found.append(f"{alike} rows hold the same answer twice")
    keys = Counter(prompt_key(row) for row in rows if turns(row))
    again = sum(keys.values()) - len(keys)
    if again:
        found.append(f"{again} rows ask what an earlier row asks: split by prompt, not by row")
    return found
