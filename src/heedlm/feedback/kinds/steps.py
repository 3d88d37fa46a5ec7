"""Solutions in steps: which is the first wrong one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.feedback.kinds.reply import Said
from heedlm.feedback.tasks import Content
from heedlm.records.types import Row, Steps


class FirstWrong(Config):
    """Mark the first wrong step of a solution. Source: Lightman et al. 2023, §2.4; docs/methods.md §6.4."""

    objective: ClassVar[str] = "process"
    title: ClassVar[str] = "Find the first wrong step"
    fewest: ClassVar[int] = 1
    most: ClassVar[int] = 1

    name: Literal["steps"] = Field("steps", description="the first wrong step of a solution")

    def check(self, content: Content, reply: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        """`{"wrong": 2}` counted from 0; `{"wrong": null}` if every step is right.

        Raises:
            BadInput: What is wrong with it.
        """
        wrong = reply.get("wrong", "")
        if wrong is not None and (
            isinstance(wrong, bool) or not isinstance(wrong, int) or not 0 <= wrong < len(content.steps)
        ):
            raise BadInput(f"wrong: must be a step from 0 to {len(content.steps) - 1}, or null if all are right")
        return {"wrong": wrong}

    def shown(self, reply: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        """A stored reply as the page shows it."""
        return dict(reply)

    def records(self, content: Content, reply: Mapping[str, Any], said: Said) -> list[Row]:
        """The steps with +1 before the first wrong one and −1 there; what comes after was not judged and says 0."""
        wrong, count = reply["wrong"], len(content.steps)
        first = count if wrong is None else wrong
        labels: list[Literal[-1, 0, 1]] = [1 if step < first else -1 if step == first else 0 for step in range(count)]
        return [Steps(prompt=content.prompt, steps=content.steps, labels=tuple(labels), **said.who(content))]

    def same(self, expected: Mapping[str, Any], reply: Mapping[str, Any]) -> float:
        """1 if the same step was marked."""
        return float(expected["wrong"] == reply["wrong"])
