"""What the village's own manners of answering score: the ground truth behind every claim about imitation."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from heedlm.village.families import FAMILIES
from heedlm.village.reading import Reading
from heedlm.village.tasks import answer, draw_task, score, usage
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
                words = fmean(Reading(text, lang, lambda at=lang: usage(at)).size for text in answers)
                rows.append(MannerGold(family.name, lang, manner.name, manner.share, gold, words))
    return rows


@dataclass(frozen=True)
class Contrast:
    """Commonest against best manner of one family and language: mean gold, and how often the best one wins."""

    family: str
    lang: str
    common: float
    best: float
    win_rate: float
    win_rate_length_matched: float | None
    matched: int


def contrasts(n: int = 100, seed: int = 0, languages: Sequence[str] = LANGUAGES) -> list[Contrast]:
    """Best against commonest manner on `n` tasks each; ties count half, lengths match within a ratio of 0.8–1.25."""
    rows = []
    for family in FAMILIES.values():
        for lang in languages:
            rng = random.Random(f"contrast|{seed}|{family.name}|{lang}")
            wins, matched, common, best = [], [], [], []
            for _ in range(n):
                task = draw_task(family, lang, "test", rng)
                texts = answer(task, family.common, rng), answer(task, family.best, rng)
                low, high = (score(task, text).total for text in texts)
                sizes = [Reading(text, lang, lambda at=lang: usage(at)).size for text in texts]
                outcome = 0.5 + 0.5 * ((high > low) - (high < low))
                wins.append(outcome)
                common.append(low)
                best.append(high)
                if 0.8 <= sizes[1] / sizes[0] <= 1.25:
                    matched.append(outcome)
            rate = fmean(matched) if matched else None
            rows.append(Contrast(family.name, lang, fmean(common), fmean(best), fmean(wins), rate, len(matched)))
    return rows


def correlation(pairs: Iterable[tuple[float, float]]) -> float:
    """Pearson's r; 0 where either side does not vary."""
    xs, ys = zip(*pairs, strict=True)
    mx, my, sx, sy = fmean(xs), fmean(ys), pstdev(xs), pstdev(ys)
    if sx == 0 or sy == 0:
        return 0.0
    return fmean((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True)) / (sx * sy)
