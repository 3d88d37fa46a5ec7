"""Demonstrations: write an answer, or mend one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from heedlm.config import Config
from heedlm.feedback.kinds.reply import Said, one_of, text
from heedlm.feedback.tasks import Content
from heedlm.records.types import Demonstration, Message

# Source: Ouyang et al. 2022, table 1.
CATEGORIES = {
    "generation": "Generation",
    "open_qa": "Open question",
    "brainstorming": "Brainstorming",
    "chat": "Chat",
    "rewrite": "Rewriting",
    "summarisation": "Summarisation",
    "classification": "Classification",
    "closed_qa": "Question on a text",
    "extraction": "Extraction",
    "other": "Other",
}


class Write(Config):
    """Write the answer an assistant should give, or mend the one shown. Source: Ouyang et al. 2022, §3.2."""

    objective: ClassVar[str] = "sft"
    title: ClassVar[str] = "Write the answer"
    fewest: ClassVar[int] = 0
    most: ClassVar[int] = 1

    name: Literal["write"] = Field("write", description="a demonstration: an answer written or mended by hand")

    def check(self, content: Content, reply: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        """`{"text": "…", "category": "chat"}`.

        Raises:
            BadInput: What is wrong with it.
        """
        return {"text": text(reply, "text", needed=True), "category": one_of(reply, "category", tuple(CATEGORIES))}

    def shown(self, reply: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        """A stored reply as the page shows it."""
        return dict(reply)

    def records(self, content: Content, reply: Mapping[str, Any], said: Said) -> list[Demonstration]:
        """The demonstration; its use-case category is its domain, its author is kept in `meta.task`."""
        meta = said.who(content)["meta"].model_copy(
            update={"domain": reply["category"], "task": {**(content.meta.task or {}), "author": said.annotator}}
        )
        turns = (*content.prompt, Message(role="assistant", content=reply["text"]))
        return [Demonstration(messages=turns, meta=meta)]

    def same(self, expected: Mapping[str, Any], reply: Mapping[str, Any]) -> float:
        """1 if the category is the expected one; a text has no single right form."""
        return float(expected["category"] == reply["category"])
