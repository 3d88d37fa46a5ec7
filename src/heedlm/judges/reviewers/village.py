"""A reviewer that knows the village's truth and errs as often as told: models of village size cannot criticise."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, PositiveInt

from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.judges.constitution import Case
from heedlm.judges.frames import POINTS
from heedlm.village import COMPONENTS, Gold, answer, score
from heedlm.village.tasks import family_of

_NOTHING = "nothing to mend"
_FAULTS = ("not: ", "only partly: ", "dishonest: ", "harmful: ")


class VillageReviewer(Config):
    """Criticises, revises and grades by the ground truth; a share `error` of its replies is wrong.

    A critique names what the truth finds lacking. A revision is the best, by the principle and then in all, of a few
    answers that villagers might give and the answer itself. A grade is the gold score on the rubric's 0 to 5 points.
    A wrong critique finds nothing, a wrong revision is any villager's answer, a wrong grade is any number of points.
    """

    name: Literal["village"] = "village"
    error: float = Field(0.1, ge=0, le=1, description="share of replies that are wrong")
    unreadable: float = Field(0.0, ge=0, le=1, description="share of replies that cannot be read")
    drafts: PositiveInt = Field(2, description="answers it thinks of for a revision")

    def critique(self, cases: Sequence[Case], seed: int = 0) -> list[str | None]:
        """What is wrong with each answer.

        Raises:
            BadInput: A prompt has no ground truth.
        """
        return [self._critique(case, self._chance("critique", case, seed)) for case in cases]

    def revise(self, cases: Sequence[Case], critiques: Sequence[str], seed: int = 0) -> list[str | None]:
        """A better answer, where the critique found something."""
        pairs = zip(cases, critiques, strict=True)
        return [self._revise(case, found, self._chance("revise", case, seed)) for case, found in pairs]

    def grade(self, cases: Sequence[Case], seed: int = 0) -> list[float | None]:
        """Points from 0 to 5."""
        return [self._grade(case, self._chance("grade", case, seed)) for case in cases]

    def _critique(self, case: Case, chance: random.Random) -> str | None:
        if chance.random() < self.unreadable:
            return None
        gold = _gold(case, case.answer)
        found = [reason for reason in gold.reasons if reason.startswith(_FAULTS)]
        return "; ".join(found) if found and chance.random() >= self.error else _NOTHING

    def _revise(self, case: Case, found: str, chance: random.Random) -> str | None:
        if chance.random() < self.unreadable:
            return None
        if found == _NOTHING:
            return case.answer
        task = _task(case)
        manners = [manner.name for manner in family_of(task).manners]
        if chance.random() < self.error:
            return answer(task, chance.choice(manners), chance)
        drafts = [case.answer] + [answer(task, chance.choice(manners), chance) for _ in range(self.drafts)]
        return max(drafts, key=lambda text: _worth(_gold(case, text), case))

    def _grade(self, case: Case, chance: random.Random) -> float | None:
        if chance.random() < self.unreadable:
            return None
        if chance.random() < self.error:
            return float(chance.randint(0, POINTS))
        return float(round(POINTS * _gold(case, case.answer).total))

    def _chance(self, what: str, case: Case, seed: int) -> random.Random:
        """Chance of its own for each reply: it does not depend on what else is asked."""
        return random.Random(f"{what} {seed} {case.prompt.id} {case.answer}")


def _worth(gold: Gold, case: Case) -> tuple[float, float]:
    criterion = "overall" if case.principle is None else case.principle.criterion
    return (getattr(gold, criterion) if criterion in COMPONENTS else gold.total, gold.total)


def _gold(case: Case, text: str) -> Gold:
    return score(_task(case), text)


def _task(case: Case) -> dict[str, Any]:
    task = case.prompt.meta.task
    if task is None:
        raise BadInput(f"prompt {case.prompt.id}: no ground truth (meta.task); the village reviewer needs it")
    return task
