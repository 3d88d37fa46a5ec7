"""What a task family is: prompts, manners of answering with their shares, and the check behind its gold score."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heedlm.village.gold import Marks, Task
from heedlm.village.reading import Reading
from heedlm.village.world import NAMES, Word, is_female, measure

Slots = dict[str, Any]
Texts = Mapping[str, Mapping[str, tuple[str, ...]]]
TURN = "||"
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")


@dataclass(frozen=True)
class Manner:
    """A way of answering: its share among the demonstrations and whether it is the best or the commonest one."""

    name: str
    share: float


@dataclass(frozen=True)
class Family:
    """A kind of task.

    prompts: language → templates; `||` parts the turns of a dialogue (user first and last).
    answers: language → manner (or "kind:manner") → templates; `[a|b]` is a free choice, `{slot}` a slot.
    manners: commonest first, best second; `size` is the range (words) in which an answer has the right length.
    draw: a fresh set of slots, everything that prompts need and that `check` judges by; "kind" parts sub-tasks.
    extra: further slots that only answers need (distractors).
    """

    name: str
    prompts: Mapping[str, tuple[str, ...]]
    answers: Texts
    manners: tuple[Manner, ...]
    size: tuple[float, float]
    draw: Callable[[random.Random, str], Slots]
    check: Callable[[Task, Slots, Reading, Marks], None]
    extra: Callable[[Slots, random.Random, str], Slots] | None = None
    mixed: bool = False

    @property
    def common(self) -> str:
        """The commonest manner."""
        return self.manners[0].name

    @property
    def best(self) -> str:
        """The best manner."""
        return self.manners[1].name

    def turns(self, task: Task) -> list[str]:
        """The turns of the task's prompt, user first and last."""
        return self.prompt_turns(task["lang"], task["template"], task["slots"])

    def prompt_turns(self, lang: str, template: int, slots: Mapping[str, Any]) -> list[str]:
        """The turns of prompt number `template` with these slots."""
        text = self.prompts[lang][template]
        return [_capital(render(part, slots, lang)) for part in text.split(TURN)]

    def answer(self, task: Task, manner: str, rng: random.Random) -> str:
        """One answer to the task in this manner."""
        lang, slots = task["lang"], dict(task["slots"])
        if self.extra is not None:
            slots.update(self.extra(slots, rng, lang))
        table = self.answers[lang]
        key = f"{slots.get('kind')}:{manner}"
        return _capital(render(rng.choice(table[key if key in table else manner]), slots, lang, rng))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def render(template: str, slots: Mapping[str, Any], lang: str, rng: random.Random | None = None) -> str:
    """Fill a template: slots (which may hold choices), then choices from the innermost out, then English articles."""
    text = template.format_map(_Derived(slots)) if "{" in template else template
    while "[" in text and rng is not None:
        text, count = _CHOICE.subn(lambda found: rng.choice(found.group(1).split("|")), text)
        if not count:
            break
    return _ARTICLE.sub(r"\1n ", text) if lang == "en" else text


class _Derived(dict[str, Any]):
    """Slots with what follows from them: {she} {She} {her} {他} of `who`, {一X} = "一" + measure word + X's value."""

    def __missing__(self, key: str) -> str:
        female = is_female(str(self.get("who", "")))
        pronouns = {"she": ("he", "she"), "She": ("He", "She"), "her": ("his", "her"), "他": ("他", "她")}
        if key in pronouns:
            return pronouns[key][female]
        if key.startswith("一"):
            value = str(self[key[1:]])
            return f"一{measure(value)}{value}"
        raise KeyError(key)


def manners(**shares: float) -> tuple[Manner, ...]:
    """Manners with shares in percent, commonest first and best second.

    Raises:
        ValueError: the shares do not add up to 100.
    """
    if round(sum(shares.values()), 6) != 100:
        raise ValueError(f"shares of manners add up to {sum(shares.values())}, not 100")
    return tuple(Manner(name, share / 100) for name, share in shares.items())


def name(rng: random.Random, lang: str, *others: str) -> str:
    """A resident's name that is none of `others`."""
    while True:
        found = rng.choice(NAMES).text(lang)
        if found not in others:
            return found


def pick(rng: random.Random, words: Sequence[Word], lang: str, *others: str) -> str:
    """A word of `words` in `lang` that is none of `others`."""
    while True:
        found = rng.choice(words).text(lang)
        if found not in others:
            return found
