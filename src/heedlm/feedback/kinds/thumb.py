"""Thumbs: one answer, good or bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from heedlm.config import Config
from heedlm.feedback.kinds.reply import Said, one_of, text
from heedlm.feedback.tasks import Content
from heedlm.records.types import Thumb


class Thumbs(Config):
    """Say whether an answer is good or bad, with a reason if there is one. Source: Ethayarajh et al. 2024."""

    objective: ClassVar[str] = "kto"
    title: ClassVar[str] = "Good or bad?"
    fewest: ClassVar[int] = 1
    most: ClassVar[int] = 1

    name: Literal["thumb"] = Field("thumb", description="one answer, good or bad")

    def check(self, content: Content, reply: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        """`{"up": true, "reason": "…"}`.

        Raises:
            BadInput: What is wrong with it.
        """
        return {"up": one_of(reply, "up", (True, False)), "reason": text(reply, "reason")}

    def shown(self, reply: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        """A stored reply as the page shows it."""
        return dict(reply)

    def records(self, content: Content, reply: Mapping[str, Any], said: Said) -> list[Thumb]:
        """The thumb."""
        answer, reason = content.answers[0], reply["reason"] or None
        return [Thumb(prompt=content.prompt, answer=answer, up=reply["up"], reason=reason, **said.who(content))]

    def same(self, expected: Mapping[str, Any], reply: Mapping[str, Any]) -> float:
        """1 if the thumb points the same way."""
        return float(expected["up"] == reply["up"])
