"""Two answers: which is better, and by how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field

from heedlm.config import Config
from heedlm.feedback.kinds.reply import Said, one_of
from heedlm.feedback.tasks import Content
from heedlm.records.types import Comparison, Strength


class Pair(Config):
    """Choose the better of two answers and say how much better. Source: Touvron et al. 2023, §3.2.1."""

    objective: ClassVar[str] = "bradley_terry"
    title: ClassVar[str] = "Choose the better answer"
    fewest: ClassVar[int] = 2
    most: ClassVar[int] = 2

    name: Literal["pair"] = Field("pair", description="the better of two answers, and by how much")

    def check(self, content: Content, reply: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        """`{"better": 0, "strength": "slightly"}` by places shown, or `{"better": "same"}`, by the answers' indices.

        Raises:
            BadInput: What is wrong with it.
        """
        better = one_of(reply, "better", (0, 1, "same"))
        if better == "same":
            return {"better": "same"}
        return {"better": order[better], "strength": one_of(reply, "strength", get_args(Strength))}

    def shown(self, reply: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        """A stored reply as the page shows it."""
        if reply["better"] == "same":
            return dict(reply)
        return {**reply, "better": list(order).index(reply["better"])}

    def records(self, content: Content, reply: Mapping[str, Any], said: Said) -> list[Comparison]:
        """The comparison."""
        ranks = (1, 1) if reply["better"] == "same" else (1, 2) if reply["better"] == 0 else (2, 1)
        return [
            Comparison(
                prompt=content.prompt,
                answers=content.answers,
                ranks=ranks,
                strength=reply.get("strength"),
                criterion=said.criterion,
                order_shown=said.order,
                **said.who(content),
            )
        ]

    def same(self, expected: Mapping[str, Any], reply: Mapping[str, Any]) -> float:
        """1 if the same answer was chosen."""
        return float(expected["better"] == reply["better"])
