"""A judge that follows a script: for tests, and for measuring what a biased judge does to results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from heedlm.config import Config
from heedlm.judges.orders import option_probability
from heedlm.seams import Verdict

if TYPE_CHECKING:
    from heedlm.records import Message


class Scripted(Config):
    """Prefers the longer or shorter answer, or the one with the higher listed score.

    With `position_bias` b it picks whatever is shown first with probability b, and judges otherwise:
    P(first better) = (1 − b)·σ(sharpness · difference) + b. Averaged over both orders b only pulls towards ½,
    so the side that is preferred stays the right one (docs/methods.md §6.1).
    """

    name: Literal["scripted"] = "scripted"
    prefers: Literal["longer", "shorter", "scores"] = Field("longer", description="what makes an answer better")
    scores: dict[str, float] = Field({}, description='score of each answer text, for prefers="scores"; others 0')
    sharpness: float = Field(1.0, gt=0, description="how surely a difference decides")
    position_bias: float = Field(0.0, ge=0, le=1, description="probability of picking what is shown first")
    unreadable: str | None = Field(None, description="an answer holding this text gets no readable verdict")

    def compare(self, prompt: Sequence[Message], a: str, b: str) -> Verdict:
        """The script's word on a (shown first) and b."""
        if self.unreadable is not None and (self.unreadable in a or self.unreadable in b):
            return Verdict(None, "the reply held neither A nor B")
        difference = self.sharpness * (self._score(a) - self._score(b))
        preference = (1 - self.position_bias) * option_probability(difference, 0.0) + self.position_bias
        return Verdict(preference, f"prefers {self.prefers}")

    def _score(self, answer: str) -> float:
        if self.prefers == "scores":
            return self.scores.get(answer, 0.0)
        return float(len(answer)) if self.prefers == "longer" else -float(len(answer))
