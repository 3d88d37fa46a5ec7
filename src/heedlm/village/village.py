"""The village: documents, demonstrations and prompts in English and Chinese from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from heedlm.errors import BadInput
from heedlm.records import Demonstration, Document, Message, Meta, Prompt
from heedlm.village.corpus import Corpus, Plants
from heedlm.village.families import FAMILIES
from heedlm.village.tasks import SPLITS, Split, answer, choose_manner, draw_tasks, family_of
from heedlm.village.world import LANGUAGES, World


class Village:
    """A small world with known truth. The same arguments give the same texts, on every machine.

    Args:
        seed: Draws residents' facts, documents, tasks and answers.
        languages: Any of "en", "zh".
        families: Names of task families; all by default.
        plants: What is planted in the documents.
        female_share: Share of women among the residents the documents speak of.

    Raises:
        BadInput: an unknown language or family.
    """

    def __init__(
        self,
        seed: int = 0,
        languages: Sequence[str] = LANGUAGES,
        families: Sequence[str] = (),
        plants: Plants | None = None,
        female_share: float = 0.5,
    ) -> None:
        for what, given, known in (("language", languages, LANGUAGES), ("family", families, tuple(FAMILIES))):
            unknown = [value for value in given if value not in known]
            if unknown or (what == "language" and not given):
                raise BadInput(f"village: no {what} {', '.join(unknown)!r}: choose from {', '.join(known)}")
        self.seed, self.languages = seed, tuple(languages)
        self.families = tuple(families) or tuple(FAMILIES)
        self.world = World(seed, female_share)
        self.plants = plants or Plants()

    def documents(self, n: int, split: Split = "train") -> Iterator[Document]:
        """`n` documents for pretraining; dialogues in them hold tasks of this split only."""
        return Corpus(self.world, self.seed, self.languages, self.plants).documents(n, _known(split))

    def demonstrations(self, n: int, split: Split = "train") -> Iterator[Demonstration]:
        """`n` answered prompts; manners of answering are mixed by their shares (`meta.task["manner"]`)."""
        rng = self._rng("demonstrations", split)
        for i, task in zip(range(n), draw_tasks(rng, split, self.languages, self.families), strict=False):
            manner = choose_manner(family_of(task), rng)
            messages = (*_messages(task), Message(role="assistant", content=answer(task, manner, rng)))
            meta = _meta({**task, "manner": manner}, split)
            yield Demonstration(id=f"demo-{self.seed}-{split}-{i:07d}", messages=messages, meta=meta)

    def prompts(self, n: int, split: Split = "train") -> Iterator[Prompt]:
        """`n` prompts with the ground truth that `score` needs in `meta.task`."""
        rng = self._rng("prompts", split)
        for i, task in zip(range(n), draw_tasks(rng, split, self.languages, self.families), strict=False):
            yield Prompt(id=f"prompt-{self.seed}-{split}-{i:07d}", messages=_messages(task), meta=_meta(task, split))

    def _rng(self, what: str, split: Split) -> random.Random:
        return random.Random(f"{what}|{self.seed}|{_known(split)}")


def _known(split: Split) -> Split:
    if split not in SPLITS:
        raise BadInput(f"village: no split {split!r}: choose from {', '.join(SPLITS)}")
    return split


def _messages(task: dict[str, Any]) -> tuple[Message, ...]:
    turns = family_of(task).turns(task)
    return tuple(Message(role="assistant" if i % 2 else "user", content=turn) for i, turn in enumerate(turns))


def _meta(task: dict[str, Any], split: Split) -> Meta:
    return Meta(source="village", domain="task", lang=task["lang"], family=task["family"], split=split, task=task)
