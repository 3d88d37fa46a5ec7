"""Tasks: one family, language, template and set of slots, with the split it belongs to.

A task's ground truth is plain JSON (`meta.task` of a record): {"family", "lang", "template", "slots"} and, on a
demonstration, the "manner" in which it is answered. The split of a task follows from the words of its prompt in the
family's first template, so the same combination of names, things and places is in one split only, for every seed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal

from heedlm.errors import BadInput
from heedlm.village import corpus_text
from heedlm.village.families import FAMILIES, Family
from heedlm.village.gold import Gold, Marks, Task, combine
from heedlm.village.reading import Reading, Usage

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
# Of a hundred combinations: this many train, the next ten dev, the rest test.
_TRAIN, _DEV = 80, 90
# Draws tried for a prompt that was not given out before; small families run out of them.
_TRIES = 40


def split_of(family: Family, lang: str, slots: Mapping[str, Any]) -> Split:
    """The split that a combination of slots belongs to, whatever the template and the seed."""
    key = "\n".join((family.name, lang, *family.prompt_turns(lang, 0, slots)))
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 100
    return "train" if place < _TRAIN else "dev" if place < _DEV else "test"


def draw_task(family: Family, lang: str, split: Split, rng: random.Random) -> dict[str, Any]:
    """A fresh task of this family, language and split."""
    while True:
        slots = family.draw(rng, lang)
        if split_of(family, lang, slots) == split:
            template = rng.randrange(len(family.prompts[lang]))
            return {"family": family.name, "lang": lang, "template": template, "slots": slots}


def draw_tasks(
    rng: random.Random, split: Split, languages: Sequence[str], families: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Tasks without end, families and languages in equal shares; no prompt comes twice while there are new ones."""
    seen: set[tuple[str, ...]] = set()
    while True:
        family, lang = FAMILIES[rng.choice(families)], rng.choice(languages)
        for _ in range(_TRIES):
            task = draw_task(family, lang, split, rng)
            key = tuple(family.turns(task))
            if key not in seen:
                break
        seen.add(key)
        yield task


def choose_manner(family: Family, rng: random.Random) -> str:
    """A manner of answering, drawn by the manners' shares."""
    return rng.choices([m.name for m in family.manners], [m.share for m in family.manners])[0]


def answer(task: Task, manner: str, rng: random.Random) -> str:
    """An answer to the task in this manner, as a villager would write it."""
    return family_of(task).answer(task, manner, rng)


def family_of(task: Task) -> Family:
    """The family of a task; BadInput if the village has none of that name."""
    found = FAMILIES.get(str(task.get("family")))
    if found is None or task.get("lang") not in found.prompts:
        name = task.get("family")
        raise BadInput(f"meta.task: family {name!r} is none of the village's: only its own prompts have gold scores")
    return found


@cache
def usage(lang: str) -> Usage:
    """The words and neighbouring words of the village in one language, from its own answers and documents."""
    return Usage(_sayings(lang))


def _sayings(lang: str) -> Iterable[str]:
    rng = random.Random(f"usage|{lang}")
    for family in FAMILIES.values():
        for manner in family.manners:
            for _ in range(60):
                slots = family.draw(rng, lang)
                task = {"family": family.name, "lang": lang, "template": rng.randrange(4), "slots": slots}
                yield family.answer(task, manner.name, rng)
                yield from family.turns(task)
    yield from corpus_text.sample(lang)


def score(task: Task, answer: str) -> Gold:
    """The gold score of any string as an answer to a task of the village.

    Args:
        task: `meta.task` of a village prompt.
        answer: What was answered, garbage and the empty string included.

    Raises:
        BadInput: the task is not one of the village's.
    """
    family = family_of(task)
    reading = Reading(answer, task["lang"], lambda: usage(task["lang"]))
    marks = Marks()
    family.check(task, dict(task["slots"]), reading, marks)
    return combine(reading, marks, *family.size, mixed=family.mixed)
