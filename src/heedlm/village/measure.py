"""What the village's own manners of answering score: the ground truth behind every claim about imitation."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from heedlm.village.families import FAMILIES
from heedlm.village.gold import Task
from heedlm.village.reading import size_of
from heedlm.village.tasks import answer, choose_manner, draw_task, family_of, score
from heedlm.village.world import LANGUAGES


@dataclass(frozen=True)
class MannerGold:
    """Mean gold and size (words) of one manner in one family and language; `share` is its share of demonstrations."""

    family: str
    lang: str
    manner: str
    share: float
    gold: float
    words: float


def manner_table(n: int = 60, seed: int = 0, languages: Sequence[str] = LANGUAGES) -> list[MannerGold]:
    """Mean gold by family, language and manner over `n` tasks each, in the order of the families' tables."""
    rows = []
    for family in FAMILIES.values():
        for lang in languages:
            rng = random.Random(f"table|{seed}|{family.name}|{lang}")
            tasks = [draw_task(family, lang, "train", rng) for _ in range(n)]
            for manner in family.manners:
                answers = [answer(task, manner.name, rng) for task in tasks]
                gold = fmean(score(task, text).total for task, text in zip(tasks, answers, strict=True))
                words = fmean(map(size_of, answers))
                rows.append(MannerGold(family.name, lang, manner.name, manner.share, gold, words))
    return rows


@dataclass(frozen=True)
class Contrast:
    """Commonest against best manner of one family and language: mean gold, and how often the best one wins.

    `greedy` is the mean gold of what greedy decoding of a perfect imitator writes, `sampled` that of its samples;
    `matched` counts the pairs whose lengths are within a ratio of 0.8 to 1.25 of each other.
    """

    family: str
    lang: str
    common: float
    greedy: float
    sampled: float
    best: float
    win_rate: float
    win_rate_length_matched: float | None
    matched: int


def contrasts(n: int = 60, seed: int = 0, languages: Sequence[str] = LANGUAGES) -> list[Contrast]:
    """Best against commonest manner on `n` unseen tasks of each family and language; ties count half."""
    return [_contrast(family, lang, n, seed) for family in FAMILIES for lang in languages]


def _contrast(family: str, lang: str, n: int, seed: int) -> Contrast:
    kind = FAMILIES[family]
    rng = random.Random(f"contrast|{seed}|{family}|{lang}")
    wins, matched, common, best, greedy, sampled = [], [], [], [], [], []
    for _ in range(n):
        task = draw_task(kind, lang, "test", rng)
        texts = answer(task, kind.common, rng), answer(task, kind.best, rng)
        low, high = (score(task, text).total for text in texts)
        outcome = 0.5 + 0.5 * ((high > low) - (high < low))
        wins.append(outcome)
        common.append(low)
        best.append(high)
        greedy.append(score(task, greedy_imitation(task, rng)).total)
        sampled.append(score(task, imitation(task, rng)).total)
        if 0.8 <= size_of(texts[1]) / size_of(texts[0]) <= 1.25:
            matched.append(outcome)
    rate = fmean(matched) if matched else None
    means = (fmean(common), fmean(greedy), fmean(sampled), fmean(best), fmean(wins))
    return Contrast(family, lang, *means, rate, len(matched))


def imitation(task: Task, rng: random.Random) -> str:
    """What a perfect imitator of the demonstrations answers at temperature 1."""
    return answer(task, choose_manner(family_of(task), rng), rng)


def greedy_imitation(task: Task, rng: random.Random, n: int = 200) -> str:
    """What a perfect imitator answers greedily: character by character the likeliest next one, from `n` samples."""
    answers = [imitation(task, rng) for _ in range(n)]
    at = 0
    while True:
        following = Counter(text[at : at + 1] for text in answers)
        chosen = min(following, key=lambda character: (-following[character], character))
        answers = [text for text in answers if text[at : at + 1] == chosen]
        if not chosen:
            return answers[0]
        at += 1


def correlation(pairs: Iterable[tuple[float, float]]) -> float:
    """Pearson's r; 0 where either side does not vary."""
    xs, ys = zip(*pairs, strict=True)
    mean_x, mean_y = fmean(xs), fmean(ys)
    spread_x = sum((x - mean_x) ** 2 for x in xs)
    spread_y = sum((y - mean_y) ** 2 for y in ys)
    both = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return float(both / (spread_x * spread_y) ** 0.5) if spread_x and spread_y else 0.0
