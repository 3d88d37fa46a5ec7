"""What the text itself shows: diversity, repetition, length, and the known symptoms of over-optimisation.

Everything works on English and Chinese alike: a unit is a word, a single Chinese or Japanese character, or a
punctuation mark (counted, so that a collapse into "!!!!" is seen as the repetition it is).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median

from heedlm.errors import HeedError
from heedlm.evals.bootstrap import Difference, paired_bootstrap

_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNIT = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+(?:['’][^\W_{_CJK}]+)*|[^\w\s]|_")

_LIST_LINE = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.)、]|[一二三四五六七八九十]{1,3}、)\s*\S", re.MULTILINE)
_CLOSING = re.compile(
    r"[.!?。！？;；\n]\s*"
    r"(?:(?:overall|in conclusion|in summary|to sum up)\b|总之|综上所述|总的来说|总而言之)",
    re.I,
)
_APOLOGY = re.compile(r"\b(?:sorry|apologi[sz]e|apologies|my apology|forgive me)\b|抱歉|对不起|不好意思|请原谅", re.I)
_AS_AN_AI = re.compile(
    r"\bas an? (?:ai|artificial intelligence|language model)\b|作为(?:一个|一名)?(?:人工智能|语言模型|AI)",
    re.I,
)
_HEDGE = re.compile(
    r"\b(?:perhaps|maybe|possibly|might|may be|could be|it depends|not sure|seems?|probably)\b"
    r"|也许|可能|或许|大概|似乎|不一定|不确定",
    re.I,
)
_REFUSAL = re.compile(
    r"\bI(?:'m| am)? (?:can(?:no|')t|can ?not|won't|will not|unable to|not able to) "
    r"(?:help|do that|assist|answer|provide|tell|share|give)"
    r"|我(?:不能|无法|不会|没法)(?:帮|回答|提供|告诉|协助|这样做|透露)",
    re.I,
)
_PLEASE = re.compile(r"(?:\bplease|\bpls|请|拜托)[\s.!?。！？…]*$", re.I)
_QUESTIONS = re.compile(r"[?？]\s*[?？]\s*[?？]")

SYMPTOMS = ("list", "closing", "apologies", "as_an_ai", "hedges", "refusal", "please", "questions")


def units(text: str) -> list[str]:
    """Words in lower case, single Chinese characters and punctuation marks, in order."""
    return [match.group().lower() for match in _UNIT.finditer(text)]


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """All runs of `n` units of a text, in order."""
    words = units(text)
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different n-grams divided by all n-grams of all texts together, in [0, 1]; 0 where there are none.

    It falls with the amount of text, so compare sets of the same size only. Source: Li et al. 2016.
    """
    grams = [gram for text in texts for gram in ngrams(text, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition(text: str, n: int = 4) -> float:
    """Share of a text's n-grams that occurred before in the same text; 0 for a text shorter than n units."""
    grams = ngrams(text, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def symptoms(text: str) -> dict[str, float]:
    """The symptoms of over-optimisation in one answer (docs/methods.md §7.2).

    `list` (≥ 2 list lines), `closing` (a later sentence opens with "overall", "in conclusion"), `as_an_ai`
    (among the first 60 characters), `refusal`, `please` (as its last word) and `questions` (three question
    marks in a row) are 0 or 1; `apologies` and `hedges` are counts per 100 units.
    """
    length = max(1, len(units(text)))
    return {
        "list": float(len(_LIST_LINE.findall(text)) >= 2),
        "closing": float(bool(_CLOSING.search(text))),
        "apologies": 100 * len(_APOLOGY.findall(text)) / length,
        "as_an_ai": float(bool(_AS_AN_AI.search(text[:60]))),
        "hedges": 100 * len(_HEDGE.findall(text)) / length,
        "refusal": float(bool(_REFUSAL.search(text))),
        "please": float(bool(_PLEASE.search(text.strip()))),
        "questions": float(bool(_QUESTIONS.search(text))),
    }


@dataclass(frozen=True)
class TextStats:
    """Summary of a set of answers. Lengths are tokens where given, else units; shares lie in [0, 1]."""

    n: int
    length_mean: float
    length_median: float
    truncated: float | None
    empty: float
    distinct_1: float
    distinct_2: float
    repetition_4: float
    symptoms: dict[str, float]

    def to_dict(self) -> dict[str, object]:
        """The same as plain JSON values."""
        return asdict(self)


def describe(
    texts: Sequence[str], *, tokens: Sequence[int] | None = None, ended: Sequence[bool] | None = None
) -> TextStats:
    """Length, diversity, repetition and symptom rates of a set of answers.

    Args:
        texts: The answers.
        tokens: Their lengths in tokens; without it lengths are counted in units.
        ended: False for an answer cut at the limit; without it the truncated share is unknown (None).

    Raises:
        HeedError: There are no texts, or the lists differ in length.
    """
    if not texts:
        raise HeedError("text statistics: there are no texts")
    for name, other in (("token counts", tokens), ("ended flags", ended)):
        if other is not None and len(other) != len(texts):
            raise HeedError(f"text statistics: {len(texts)} texts but {len(other)} {name}")
    lengths = list(tokens) if tokens is not None else [len(units(text)) for text in texts]
    found = [symptoms(text) for text in texts]
    return TextStats(
        n=len(texts),
        length_mean=fmean(lengths),
        length_median=float(median(lengths)),
        truncated=None if ended is None else sum(not end for end in ended) / len(texts),
        empty=sum(not text.strip() for text in texts) / len(texts),
        distinct_1=distinct_n(texts, 1),
        distinct_2=distinct_n(texts, 2),
        repetition_4=fmean(repetition(text) for text in texts),
        symptoms={name: fmean(row[name] for row in found) for name in SYMPTOMS},
    )


@dataclass(frozen=True)
class Symptom:
    """One symptom before and after training; `flagged` where it more than doubled beyond chance."""

    name: str
    before: float
    after: float
    difference: Difference
    flagged: bool


def compare_symptoms(before: Sequence[str], after: Sequence[str], *, seed: int = 0) -> list[Symptom]:
    """Symptom rates of two models' answers to the same prompts.

    A symptom is flagged if it more than doubled and the 95 % bootstrap interval of the difference lies above
    zero. docs/methods.md §7.2 asks the interval of the ratio to exclude 1; the difference says the same and stays
    defined where the symptom was absent before.

    Raises:
        HeedError: The lists differ in length or are empty.
    """
    rows_before, rows_after = [symptoms(text) for text in before], [symptoms(text) for text in after]
    result = []
    for name in SYMPTOMS:
        old, new = [row[name] for row in rows_before], [row[name] for row in rows_after]
        difference = paired_bootstrap(new, old, seed=seed)
        mean_old, mean_new = fmean(old), fmean(new)
        flagged = mean_new > 2 * mean_old and difference.low > 0
        result.append(Symptom(name, mean_old, mean_new, difference, flagged))
    return result
