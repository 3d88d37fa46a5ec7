"""Simulated annotators: people who rank answers by gold worth with logistic noise.

An annotator's utility of an answer is `scale` · worth + a standard Gumbel draw, so that of any two answers the one
of worth a is put above the one of worth b with probability σ(scale·(a − b)) (Bradley and Terry 1952; rankings of K
answers then follow Plackett and Luce). `calibrate` finds the scale at which two annotators agree as often as wanted.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field, field_validator

from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.records import Answers, Comparison
from heedlm.village.gold import COMPONENTS, Gold
from heedlm.village.tasks import score

_LARGEST_SCALE = 1e5


class Group(Config):
    """Annotators with a standard of their own: worth is the weighted mean of gold components instead of the total."""

    name: str = Field(description="name of the group, as written into comparisons")
    share: float = Field(gt=0, description="how many annotators belong to it, relative to the other groups")
    weights: dict[str, float] = Field(description="weight of each of helpful, honest, harmless, form, length")

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(weights) - set(COMPONENTS))
        if unknown:
            raise ValueError(f"no gold component {', '.join(unknown)}: choose from {', '.join(COMPONENTS)}")
        if any(weight < 0 for weight in weights.values()) or not sum(weights.values()):
            raise ValueError("weights must not be negative, and not all zero")
        return weights

    def worth(self, gold: Gold) -> float:
        """What an answer is worth to this group: the weighted mean of its gold components, in [0, 1]."""
        values = gold.components()
        return sum(weight * values[name] for name, weight in self.weights.items()) / sum(self.weights.values())


@dataclass(frozen=True)
class Judgement:
    """One annotator's ranking: `ranks[i]` is the rank of answer i (1 best, equal is a tie)."""

    ranks: tuple[int, ...]
    annotator: str
    group: str | None
    order_shown: tuple[int, ...]


class Annotators(Config):
    """A crowd of simulated annotators; every draw comes from the generator handed in."""

    agreement: float = Field(
        0.73, gt=0.5, lt=1, description="share of pairs on which two annotators agree, set by `calibrate`"
    )
    people: int = Field(12, ge=1, description="number of annotators")
    groups: tuple[Group, ...] = Field((), description="groups with standards of their own; none: gold total")
    position_bias: float = Field(0.0, ge=0, description="utility (noise units) of being shown first, not last")
    spammers: float = Field(0.0, ge=0, le=1, description="share of annotators who rank without reading")
    tie_band: float = Field(0.05, ge=0, description="utilities (noise units) closer than this are called equal")

    def group_of(self, person: int) -> Group | None:
        """The group of an annotator: people are dealt to groups in proportion to the groups' shares."""
        if not self.groups:
            return None
        place = (person + 0.5) / self.people * sum(group.share for group in self.groups)
        for group in self.groups:
            place -= group.share
            if place < 0:
                return group
        return self.groups[-1]

    def is_spammer(self, person: int) -> bool:
        """Whether an annotator ranks without reading; spammers are spread evenly over people and groups."""
        return math.floor((person + 1) * self.spammers + 1e-9) > math.floor(person * self.spammers + 1e-9)

    def rank(
        self, worths: Sequence[float], texts: Sequence[str], scale: float, rng: random.Random, person: int | None = None
    ) -> Judgement:
        """The ranking by one annotator; answers with the same text share a rank.

        Args:
            worths: What each answer is worth to this annotator (see `Group.worth`), K numbers.
            texts: The K answers.
            scale: Utility (noise units) of one unit of worth (see `calibrate`).
            rng: Where all chance comes from.
            person: Number of the annotator, 0 … people − 1; drawn if not given.
        """
        person = rng.randrange(self.people) if person is None else person
        group, spams = self.group_of(person), self.is_spammer(person)
        order = list(range(len(texts)))
        rng.shuffle(order)
        last = max(1, len(order) - 1)
        utilities: dict[str, float] = {}
        for shown, i in enumerate(order):
            noise = -math.log(-math.log(rng.random() or 1e-300))
            value = 0.0 if spams else scale * worths[i]
            utilities.setdefault(texts[i], value + noise + self.position_bias * (1 - shown / last))
        return Judgement(
            ranks=ranks_of([utilities[text] for text in texts], self.tie_band),
            annotator=f"annotator-{person:02d}",
            group=group.name if group else None,
            order_shown=tuple(order),
        )

    def compare(self, row: Answers, golds: Sequence[float], scale: float, rng: random.Random) -> Comparison:
        """A ranking of sampled answers by an annotator drawn at random, as a record.

        Args:
            row: The answers.
            golds: Gold total of each answer; a member of a group judges by the components instead.
            scale: Utility (noise units) of one unit of worth (see `calibrate`).
            rng: Where all chance comes from.

        Raises:
            BadInput: fewer than two answers, or groups are set and the prompt is not the village's.
        """
        if len(row.answers) < 2:
            raise BadInput(f"answers {row.id}: {len(row.answers)} answer, a comparison needs at least 2: sample more")
        person = rng.randrange(self.people)
        texts = [answer.text for answer in row.answers]
        group = self.group_of(person)
        if group is not None:
            if row.meta.task is None:
                raise BadInput(f"answers {row.id}: meta.task is missing: groups judge only the village's own prompts")
            golds = [group.worth(score(row.meta.task, text)) for text in texts]
        judged = self.rank(golds, texts, scale, rng, person)
        return Comparison(
            id=row.id,
            prompt=row.prompt,
            answers=row.answers,
            ranks=judged.ranks,
            annotator=judged.annotator,
            group=judged.group,
            order_shown=judged.order_shown,
            consent=True,
            meta=row.meta,
        )

    def calibrate(self, worths: Sequence[Sequence[float]]) -> float:
        """The scale at which two annotators agree on a share `agreement` of all pairs of answers to one prompt.

        Args:
            worths: For each prompt the gold totals of its answers (distinct texts; equal worth is a toss-up).

        Agreement counts pairs on which both have an opinion (no tie); people are taken to judge by gold total, so
        groups, spammers and position bias lower what is then measured.

        Raises:
            BadInput: there is no pair of answers of different worth, or so few that the agreement is out of reach.
        """
        gaps = list(_gaps(worths))
        best = self._agreement(gaps, _LARGEST_SCALE)
        if best < self.agreement:
            raise BadInput(
                f"annotators: agreement={self.agreement} is out of reach for these answers, at most {best:.3f}: too "
                "many are of the same worth; lower agreement or sample more varied answers"
            )
        low, high = 0.0, _LARGEST_SCALE
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if self._agreement(gaps, middle) < self.agreement else (low, middle)
        return (low + high) / 2

    def agreement_at(self, worths: Sequence[Sequence[float]], scale: float) -> float:
        """Expected share of pairs that two annotators order alike, of those both order (no tie)."""
        return self._agreement(list(_gaps(worths)), scale)

    def ceiling(self, worths: Sequence[Sequence[float]], scale: float) -> float:
        """The best possible accuracy against held-out labels, E[max(p, 1 − p)] over ordered pairs, ties left out."""
        total = count = 0.0
        for gap in _gaps(worths):
            above, below = self._sides(gap, scale)
            total += max(above, below)
            count += above + below
        return total / count if count else 0.5

    def _sides(self, gap: float, scale: float) -> tuple[float, float]:
        """Probabilities that an annotator puts the first above and below the second (the rest are ties)."""
        return _sigmoid(scale * gap - self.tie_band), _sigmoid(-scale * gap - self.tie_band)

    def _agreement(self, gaps: Sequence[float], scale: float) -> float:
        same = both = 0.0
        for gap in gaps:
            above, below = self._sides(gap, scale)
            same += above * above + below * below
            both += (above + below) ** 2
        return same / both if both else 0.0


def ranks_of(utilities: Sequence[float], band: float) -> tuple[int, ...]:
    """Ranks (1 best); an answer less than `band` below the best of its rank shares that rank."""
    order = sorted(range(len(utilities)), key=lambda i: -utilities[i])
    ranks = [0] * len(order)
    head = order[0]
    for place, i in enumerate(order):
        if utilities[head] - utilities[i] >= band and utilities[head] > utilities[i]:
            head = i
            ranks[i] = place + 1
        else:
            ranks[i] = ranks[head] or 1
    return tuple(ranks)


def measured_agreement(judgements: Iterable[tuple[Judgement, Judgement]]) -> float:
    """Share of pairs of answers that two annotators order alike, of those both order."""
    same = both = 0
    for one, two in judgements:
        for i in range(len(one.ranks)):
            for j in range(i):
                first, second = one.ranks[i] - one.ranks[j], two.ranks[i] - two.ranks[j]
                if first and second:
                    both += 1
                    same += (first > 0) == (second > 0)
    return same / both if both else 0.0


def _gaps(worths: Sequence[Sequence[float]]) -> Iterator[float]:
    return (row[i] - row[j] for row in worths for i in range(len(row)) for j in range(i))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x)) if x > -700 else 0.0


def _unit(text: str) -> float:
    """A number in [0, 1) that belongs to the text."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).digest(), "big") / 2**48
