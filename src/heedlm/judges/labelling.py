"""Rankings by AI: a judge that compares answers in both orders, or a grader that gives each its points."""

from __future__ import annotations

import itertools
import json
import statistics
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from heedlm.judges import frames
from heedlm.judges.asked import Asked
from heedlm.judges.constitution import Case, Principle, draw
from heedlm.judges.orders import BothOrders, both_orders_all, clamp
from heedlm.records import Answers, Comparison, Prompt, Strength
from heedlm.seams import Judge, Reviewer
from heedlm.village.annotators import ranks_of

Entry = Mapping[str, Any]  # what a source said of one prompt: a line of the run's log
# How far from even a pair is on average, |2p − 1|, and what that is called.
_STRENGTHS: tuple[tuple[float, Strength], ...] = ((0.8, "significantly"), (0.5, "better"), (0.2, "slightly"))


class Source(ABC):
    """Ranks the answers to prompts: first it is asked, then its words become rankings.

    Only the first costs anything, and what it returns can be written down and read again. `who` is asked.
    """

    who: Judge | Reviewer

    @abstractmethod
    def prepare(self, rows: Sequence[Answers]) -> None:
        """Told what it will be asked: a source that costs money says how much."""

    @abstractmethod
    def ask(self, rows: Sequence[Answers]) -> list[Entry]:
        """What it says of each row's answers."""

    @abstractmethod
    def whole(self, entry: Entry) -> bool:
        """Whether everything was answered, so that it need not be asked again."""

    @abstractmethod
    def ranking(self, row: Answers, entry: Entry) -> Comparison | None:
        """The ranking, or None where nothing readable was said of some answer."""

    @abstractmethod
    def facts(self, entries: Sequence[Entry]) -> dict[str, Any]:
        """What is worth knowing of all it said."""


class ByJudge(Source):
    """Every pair of a prompt's answers is compared in both orders and averaged (docs/methods.md §6.1).

    An answer's rank follows from its mean preference over the others. `certainty` is the mean preference of the pairs
    in the order that the ranks give them; `strength` is its distance from even, in words.

    Args:
        judge: Who compares.
        principles: One is drawn for each prompt in place of the judge's question; none: the judge's own.
        limits: Preferences are held within these, for labels after reasoning; None: as they are.
        tie_band: Mean preferences closer than this share a rank.
        seed: Decides the draw.
    """

    def __init__(
        self,
        judge: Judge,
        principles: Sequence[Principle] = (),
        limits: tuple[float, float] | None = None,
        tie_band: float = 0.02,
        seed: int = 0,
    ) -> None:
        self.who = self.judge = judge
        self.principles, self.limits = principles, limits
        self.tie_band, self.seed = tie_band, seed

    def prepare(self, rows: Sequence[Answers]) -> None:
        """Say what the questions cost, both orders of every pair."""
        if isinstance(self.judge, Asked):
            asked = [self.judge.ask(*pair) for row in rows for pair in _pairs(row)]
            # With reasoning each is asked twice, and the first reply is long.
            times, tokens = (4, frames.LONG) if self.judge.reasoning else (2, frames.SHORT)
            self.judge.prepare(asked * times, tokens)

    def ask(self, rows: Sequence[Answers]) -> list[Entry]:
        """Preferences of all pairs in both orders."""
        drawn = [self._principle(row) for row in rows]
        pairs = [pair for row in rows for pair in _pairs(row)]
        questions = None
        if self.principles:
            questions = [
                p.request("comparison", row.meta.lang)
                for row, p in zip(rows, drawn, strict=True)
                if p
                for _ in _pairs(row)
            ]
        verdicts = iter(both_orders_all(self.judge, pairs, questions))
        return [
            {
                "principle": None if principle is None else principle.id,
                "verdicts": [
                    [found.shown_first, found.shown_second] for found in itertools.islice(verdicts, _count(row))
                ],
            }
            for row, principle in zip(rows, drawn, strict=True)
        ]

    def whole(self, entry: Entry) -> bool:
        """Whether every verdict could be read."""
        return all(None not in both for both in entry["verdicts"])

    def ranking(self, row: Answers, entry: Entry) -> Comparison | None:
        """Ranks, certainty and strength from the pairs' preferences."""
        places = list(itertools.combinations(range(len(row.answers)), 2))
        preferred: dict[tuple[int, int], float] = {}
        for (i, j), both in zip(places, entry["verdicts"], strict=True):
            preference = BothOrders(*both).preference
            if preference is not None:
                held = preference if self.limits is None else clamp(preference, *self.limits)
                preferred[i, j], preferred[j, i] = held, 1 - held
        of_each = [[p for (i, _), p in preferred.items() if i == place] for place in range(len(row.answers))]
        if not all(of_each):
            return None
        ranks = ranks_of([statistics.fmean(each) for each in of_each], self.tie_band)
        certain = [p for (i, j), p in preferred.items() if ranks[i] < ranks[j]]
        principle = self._principle(row)
        return Comparison(
            id=row.id,
            prompt=row.prompt,
            answers=row.answers,
            ranks=ranks,
            certainty=statistics.fmean(certain) if certain else None,
            strength=strength_of(certain) if certain else None,
            criterion=getattr(self.judge, "criterion", "overall") if principle is None else principle.criterion,
            annotator=f"judge:{self.judge.name}",
            group=None if principle is None else principle.id,
            meta=row.meta,
        )

    def facts(self, entries: Sequence[Entry]) -> dict[str, Any]:
        """Verdicts, unread ones, position consistency, and how often the answer shown first was preferred."""
        both = [BothOrders(*each) for entry in entries for each in entry["verdicts"]]
        said = [found.consistent for found in both if found.consistent is not None]
        # The second order's word is kept as P(a better), where a was shown second.
        single = [p for found in both for p in (found.shown_first, _other(found.shown_second)) if p is not None]
        return {
            "pairs": len(both),
            "unread_verdicts": sum((found.shown_first is None) + (found.shown_second is None) for found in both),
            "position_consistency": statistics.fmean(said) if said else None,
            "mean_preference_for_first": statistics.fmean(single) if single else None,
        }

    def _principle(self, row: Answers) -> Principle | None:
        return draw(self.principles, self.seed, row.id) if self.principles else None


class ByGrades(Source):
    """Each answer alone gets points by the additive rubric, several times, and ranks follow their mean.

    Source: Yuan et al. 2024 (self-rewarding language models), section 2.2; docs/methods.md §6.3.

    Args:
        grader: Who gives points.
        judgements: How many times each answer is graded.
        seed: Decides the grader's chances.
    """

    def __init__(self, grader: Reviewer, judgements: int = 3, seed: int = 0) -> None:
        self.who = self.grader = grader
        self.judgements, self.seed = judgements, seed

    def prepare(self, rows: Sequence[Answers]) -> None:
        """Say what the questions cost."""
        if isinstance(self.grader, Asked):
            asked = [frames.rubric(row.prompt, each.text) for row in rows for each in row.answers]
            self.grader.prepare(asked * self.judgements, frames.LONG)

    def ask(self, rows: Sequence[Answers]) -> list[Entry]:
        """Points of every answer, once for each judgement."""
        cases = [
            Case(Prompt(id=row.id, messages=row.prompt, meta=row.meta), each.text)
            for row in rows
            for each in row.answers
        ]
        rounds = [self.grader.grade(cases, self.seed * 1_009 + number) for number in range(self.judgements)]
        of_each = iter(zip(*rounds, strict=True))
        return [{"points": [list(next(of_each)) for _ in row.answers]} for row in rows]

    def whole(self, entry: Entry) -> bool:
        """Whether every grade could be read."""
        return all(None not in points for points in entry["points"])

    def ranking(self, row: Answers, entry: Entry) -> Comparison | None:
        """Ranks by mean points; equal means share a rank."""
        read = [[p for p in points if p is not None] for points in entry["points"]]
        if not all(read):
            return None
        return Comparison(
            id=row.id,
            prompt=row.prompt,
            answers=row.answers,
            ranks=ranks_of([statistics.fmean(points) for points in read], 1e-9),
            annotator=f"grader:{self.grader.name}",
            meta=row.meta,
        )

    def facts(self, entries: Sequence[Entry]) -> dict[str, Any]:
        """Grades, unread ones, and their mean."""
        points = [p for entry in entries for each in entry["points"] for p in each]
        read = [p for p in points if p is not None]
        return {
            "grades": len(points),
            "unread_grades": len(points) - len(read),
            "mean_grade": statistics.fmean(read) if read else None,
        }


def strength_of(preferences: Sequence[float]) -> Strength:
    """How far pairs are from even on average, in the words that people choose from."""
    distance = statistics.fmean(abs(2 * p - 1) for p in preferences)
    return next((word for least, word in _STRENGTHS if distance > least - 1e-9), "negligibly")


def as_line(place: int, row: Answers, entry: Entry) -> str:
    """A line of the log: what was said of the answers of row number `place`."""
    return json.dumps({"row": place, "id": row.id, **entry}, ensure_ascii=False) + "\n"


def _pairs(row: Answers) -> list[tuple[Any, str, str]]:
    texts = [answer.text for answer in row.answers]
    return [(row.prompt, a, b) for a, b in itertools.combinations(texts, 2)]


def _count(row: Answers) -> int:
    return len(row.answers) * (len(row.answers) - 1) // 2


def _other(preference: float | None) -> float | None:
    return None if preference is None else 1 - preference
