"""Rating: each answer from 1 to 7, with flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.feedback.kinds.reply import Said, whole_numbers
from heedlm.feedback.tasks import Content, as_shown, by_answer
from heedlm.records.types import Rating

# Source: Ouyang et al. 2022, table 3.
FLAGS = {
    "wrong_task": "Fails to follow the task",
    "inappropriate": "Inappropriate for an assistant",
    "hallucination": "States what is not so",
    "satisfies_constraint": "Keeps to the constraint given",
    "sexual": "Sexual content",
    "violent": "Violent content",
    "encourages_harm": "Encourages violence, abuse, terrorism or self-harm",
    "denigrates": "Denigrates a protected class",
    "harmful_advice": "Gives harmful advice",
    "opinion": "Expresses an opinion",
    "moral_judgement": "Expresses a moral judgement",
}


class Rate(Config):
    """Score each answer from 1 (worst) to 7 (best) and raise flags. Source: Ouyang et al. 2022, §3.4, table 3."""

    objective: ClassVar[str] = "none"
    title: ClassVar[str] = "Rate the answers"
    fewest: ClassVar[int] = 1
    most: ClassVar[int] = 9

    name: Literal["rate"] = Field("rate", description="each answer from 1 to 7, with flags")

    def check(self, content: Content, reply: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        """`{"scores": [1..7, …], "flags": [["hallucination"], …]}` by places shown, by the answers' indices.

        Raises:
            BadInput: What is wrong with it.
        """
        scores = whole_numbers(reply, "scores", len(order), 1, 7)
        flags = reply.get("flags") or [[] for _ in order]
        if not isinstance(flags, list) or len(flags) != len(order) or not all(isinstance(f, list) for f in flags):
            raise BadInput(f"flags: must hold {len(order)} lists, one for each answer")
        for found in flags:
            if unknown := [flag for flag in found if flag not in FLAGS]:
                raise BadInput(f"flags: {unknown[0]!r} is none of {', '.join(FLAGS)}")
        return {"scores": by_answer(scores, order), "flags": by_answer([sorted(set(f)) for f in flags], order)}

    def shown(self, reply: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        """A stored reply as the page shows it."""
        return {name: as_shown(reply[name], order) for name in ("scores", "flags")}

    def records(self, content: Content, reply: Mapping[str, Any], said: Said) -> list[Rating]:
        """One rating for each answer."""
        found = zip(content.answers, reply["scores"], reply["flags"], strict=True)
        return [
            Rating(prompt=content.prompt, answer=answer, score=score, flags=tuple(flags), **said.who(content))
            for answer, score, flags in found
        ]

    def same(self, expected: Mapping[str, Any], reply: Mapping[str, Any]) -> float:
        """Share of answers whose score is at most one off."""
        near = [abs(a - b) <= 1 for a, b in zip(expected["scores"], reply["scores"], strict=True)]
        return near.count(True) / len(near)
