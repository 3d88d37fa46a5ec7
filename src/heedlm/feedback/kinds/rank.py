"""Ranking: two to nine answers in order, ties allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from heedlm.config import Config
from heedlm.feedback.kinds.reply import Said, whole_numbers
from heedlm.feedback.tasks import Content, as_shown, by_answer
from heedlm.records.types import Comparison


class Rank(Config):
    """Put the answers in order, best first; equal places are a tie. Source: Ouyang et al. 2022, §3.4."""

    objective: ClassVar[str] = "bradley_terry"
    title: ClassVar[str] = "Rank the answers"
    fewest: ClassVar[int] = 2
    most: ClassVar[int] = 9

    name: Literal["rank"] = Field("rank", description="all answers in order, ties allowed")

    def check(self, content: Content, reply: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        """A reply as the page sends it, `{"ranks": [place of the first answer shown, …]}`, by the answers' indices.

        Ranks are made dense: 1 is best, and the next lower rank is one more. `{"cannot": "why"}` says that the
        answers cannot be ranked.

        Raises:
            BadInput: What is wrong with it.
        """
        if "cannot" in reply:
            return {"cannot": str(reply["cannot"])[:2000]}
        ranks = whole_numbers(reply, "ranks", len(order), 1, len(order))
        dense = {rank: place for place, rank in enumerate(sorted(set(ranks)), 1)}
        return {"ranks": by_answer([dense[rank] for rank in ranks], order)}

    def shown(self, reply: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        """A stored reply as the page shows it."""
        return dict(reply) if "cannot" in reply else {"ranks": as_shown(reply["ranks"], order)}

    def records(self, content: Content, reply: Mapping[str, Any], said: Said) -> list[Comparison]:
        """The comparison; none if the answers could not be ranked."""
        if "cannot" in reply:
            return []
        return [
            Comparison(
                prompt=content.prompt,
                answers=content.answers,
                ranks=tuple(reply["ranks"]),
                criterion=said.criterion,
                order_shown=said.order,
                **said.who(content),
            )
        ]

    def same(self, expected: Mapping[str, Any], reply: Mapping[str, Any]) -> float:
        """How far a reply is the expected one: the share of answer pairs ordered alike (a tie is a third order)."""
        if "cannot" in expected or "cannot" in reply:
            return float(("cannot" in expected) == ("cannot" in reply))
        first, second = expected["ranks"], reply["ranks"]
        pairs = [(i, j) for i in range(len(first)) for j in range(i)]
        alike = [_sign(first[i] - first[j]) == _sign(second[i] - second[j]) for i, j in pairs]
        return sum(alike) / len(alike)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
