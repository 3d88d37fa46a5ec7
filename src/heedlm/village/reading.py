"""Reading an answer: words, sentences, language, repetition, and how far it is the village's language at all.

Nothing here knows a task. Every function takes any string and never raises.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from heedlm.village import lexicon_en, lexicon_zh
from heedlm.village.world import ADJECTIVES, ANIMALS, NAMES, OBJECTS, PLACES

_CJK = r"\u3400-\u9fff"
_ATOM = re.compile(rf"[a-z]+|[0-9]+|[{_CJK}]|[+=]")
_HAS_CJK = re.compile(rf"[{_CJK}]")
_SENTENCE_END = re.compile(r"[.!?。！？\n/;；:：]+")
_FINAL = tuple(".!?。！？”\"'")
PHRASES = {"en": lexicon_en.PHRASES, "zh": lexicon_zh.PHRASES}
# An answer is read up to here; what a tiny model writes beyond is over-long whatever it says.
READ_LIMIT = 2000


def _classes() -> dict[str, str]:
    """Every name, place, thing and adjective of both languages to the class that stands for it in word pairs."""
    classes: dict[str, str] = {}
    for group, words in OBJECTS.items():
        for word in words:
            mark = {"animals": "<animal>", "drinks": "<drink>"}.get(group, "<thing>")
            classes.update({word.en: mark, word.zh: mark, word.en + "s": "<things>"})
    for word in ANIMALS:
        classes[word.en] = classes[word.zh] = "<animal>"
    for word in PLACES:
        classes.update({word.en: "<place>", word.zh: "<place>"})
    for word in ADJECTIVES:
        classes[word.en] = "<adjective>"
    for name in NAMES:
        classes.update({name.en.lower(): "<name>", name.zh: "<name>"})
    return classes


CLASSES = _classes()
_ZH_ENTITIES = sorted((w for w in CLASSES if _HAS_CJK.search(w) and len(w) > 1), key=len, reverse=True)
_TOKEN = re.compile("|".join([*map(re.escape, _ZH_ENTITIES), _ATOM.pattern]))


def tokens(text: str) -> list[str]:
    """Words of `text`: Latin words in lower case, numbers, Chinese entities whole and other characters singly."""
    return _TOKEN.findall(text.lower())


def sentences(text: str) -> list[str]:
    """The parts of `text` between sentence ends, without empty ones."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]


def size_of(text: str) -> float:
    """Length in English words; Chinese characters count 0.6 each, so that one range serves both languages."""
    return len(re.findall(r"[a-z]+|[0-9]+", text.lower())) + 0.6 * len(_HAS_CJK.findall(text))


def _class(token: str) -> str:
    return "<number>" if token.isdigit() else CLASSES.get(token, token)


def word_pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Neighbouring words of one sentence with entities as classes, beginning with ("^", first word)."""
    return pairwise(["^", *map(_class, words)])


class Usage:
    """Which words and neighbouring words the village uses: learned once from what the village itself says."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.words: set[str] = set(CLASSES)
        self.pairs: set[tuple[str, str]] = set()
        for text in texts:
            for words in map(tokens, sentences(text)):
                self.pairs.update(word_pairs(words))
                self.words.update(words)

    def unknown(self, words: Sequence[str]) -> float:
        """Share of words that the village does not have (0 where there are none)."""
        return sum(w not in self.words and not w.isdigit() for w in words) / len(words) if words else 0.0

    def unseen(self, by_sentence: Iterable[Sequence[str]]) -> float:
        """Share of neighbouring words, sentence by sentence, that the village never says next to each other."""
        pairs = [pair for words in by_sentence for pair in word_pairs(words)]
        return sum(pair not in self.pairs for pair in pairs) / len(pairs) if pairs else 0.0


@dataclass(frozen=True)
class Reading:
    """One answer as the gold parser sees it. `lang` is the language asked for, `usage` gives the village's words."""

    text: str
    lang: str
    usage: Callable[[], Usage]

    @cached_property
    def plain(self) -> str:
        """Text for phrase search: English as words between single spaces, Chinese without spaces or marks."""
        text = unicodedata.normalize("NFKC", self.text[:READ_LIMIT]).lower()
        if self.lang == "zh":
            return re.sub(rf"[^a-z0-9{_CJK}+=]+", "", text)
        return " " + " ".join(re.findall(rf"[a-z]+|[0-9]+|[+=]|[{_CJK}]+", text)) + " "

    def has(self, *phrases: str) -> bool:
        """Whether any of `phrases` occurs (whole words in English, characters in Chinese)."""
        for phrase in phrases:
            key = phrase.lower() if self.lang == "en" else phrase.lower().replace(" ", "")
            if self.lang == "en" and not _HAS_CJK.search(key):
                key = f" {key} "
            if key in self.plain:
                return True
        return False

    def does(self, act: str) -> bool:
        """Whether the answer does `act` ("refuse", "abstain", "offer" …) in any of the village's phrases."""
        return self.has(*PHRASES[self.lang][act])

    @cached_property
    def by_sentence(self) -> list[list[str]]:
        """The words of each sentence (see `tokens`)."""
        return [tokens(sentence) for sentence in self.sentences]

    @cached_property
    def words(self) -> list[str]:
        """All words."""
        return [word for words in self.by_sentence for word in words]

    @cached_property
    def sentences(self) -> list[str]:
        """All sentences."""
        return sentences(self.text[:READ_LIMIT])

    @cached_property
    def numbers(self) -> list[int]:
        """All whole numbers, in order (digits beyond nine are ignored)."""
        return [int(number[:9]) for number in re.findall(r"[0-9]+", self.plain)]

    @cached_property
    def size(self) -> float:
        """Length, see `size_of`."""
        return size_of(self.text)

    @cached_property
    def foreign(self) -> float:
        """Share of words that are written in the other language's script (0 for a text without words)."""
        latin = len(re.findall(r"[a-z]+", self.text.lower()))
        chinese = 0.6 * len(_HAS_CJK.findall(self.text))
        if latin + chinese == 0:
            return 0.0
        return (chinese if self.lang == "en" else latin) / (latin + chinese)

    @cached_property
    def repeated(self) -> float:
        """The larger of the shares of repeated sentences and of repeated runs of four words."""
        kept = [tuple(words) for words in self.by_sentence if len(words) > 1]
        again = 1 - len(set(kept)) / len(kept) if kept else 0.0
        runs = Counter(tuple(self.words[i : i + 4]) for i in range(len(self.words) - 3))
        total = sum(runs.values())
        return max(again, 1 - len(runs) / total if total else 0.0)

    @cached_property
    def clean(self) -> tuple[float, tuple[str, ...]]:
        """How far this is readable text of the village in the language asked for: a factor in [0, 1], with reasons."""
        if not self.words:
            return 0.0, ("nothing said",)
        usage = self.usage()
        factor, reasons = 1.0, []
        checks = (
            ("unknown words", usage.unknown(self.words), 0.10, 0.60),
            ("words that do not go together", usage.unseen(self.by_sentence), 0.25, 0.90),
            ("repeats itself", self.repeated, 0.05, 0.60),
        )
        for what, share, free, full in checks:
            if share > free:
                factor *= max(0.0, 1 - (share - free) / (full - free))
                reasons.append(what)
        if not self.text.rstrip().endswith(_FINAL):
            factor *= 0.9
            reasons.append("breaks off")
        return factor, tuple(reasons)
