"""Documents of the village with planted things: each knows what was planted in it.

`meta.domain` is the domain, `meta.task` = {"planted": kind, …} the ground truth for filters, audits and
memorisation studies: duplicate and near_duplicate ({"of": id}), toxic, personal ({"items": [{"kind", "value"}]}),
machine, unreliable, canary ({"value", "repeats"}).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from heedlm.config import Config
from heedlm.records import Document, Meta
from heedlm.village import corpus_text
from heedlm.village.families import FAMILIES
from heedlm.village.tasks import Split, draw_task
from heedlm.village.world import Resident, World

_DIALOGUE = 0.40
_KEPT = 200


class Plants(Config):
    """Shares of documents that are planted with something a data stage should find."""

    duplicates: float = Field(0.01, ge=0, le=1, description="share of exact copies of an earlier document")
    near_duplicates: float = Field(0.01, ge=0, le=1, description="share of copies with a word changed")
    toxic: float = Field(0.01, ge=0, le=1, description="share of rude documents")
    personal: float = Field(0.01, ge=0, le=1, description="share with a phone, address, WeChat, QQ or Wi-Fi password")
    machine: float = Field(0.01, ge=0, le=1, description="share of machine-made text")
    unreliable: float = Field(0.02, ge=0, le=1, description="share of unreliable news")
    canaries: tuple[int, ...] = Field((1, 4, 16), description="one canary for each number, planted so many times")

    def shares(self) -> dict[str, float]:
        """Kind of plant → share of documents."""
        return {
            "duplicate": self.duplicates,
            "near_duplicate": self.near_duplicates,
            "toxic": self.toxic,
            "personal": self.personal,
            "machine": self.machine,
            "unreliable": self.unreliable,
        }


class Corpus:
    """A stream of `n` documents of one split; the same seed gives the same documents."""

    def __init__(self, world: World, seed: int, languages: Sequence[str], plants: Plants) -> None:
        self.world, self.seed, self.languages, self.plants = world, seed, tuple(languages), plants

    def documents(self, n: int, split: Split) -> Iterator[Document]:
        """`n` documents, planted things among them (ids are given, since copies have the same text)."""
        rng = random.Random(f"corpus|{self.seed}|{split}")
        canaries = self._canaries(n, rng)
        earlier: list[Document] = []
        for i in range(n):
            identifier = f"doc-{self.seed}-{split}-{i:07d}"
            lang = rng.choice(self.languages)
            kind = self._kind(rng)
            if i in canaries:
                document = self._canary(canaries[i], lang, rng)
            elif kind in ("duplicate", "near_duplicate"):
                document = self._copy(kind, earlier, lang, split, rng)
            elif kind is not None:
                document = self._planted(kind, lang, rng)
            else:
                document = self._plain(lang, split, rng)
            document = document.model_copy(
                update={"id": identifier, "meta": document.meta.model_copy(update={"split": split})}
            )
            yield document
            if document.meta.task is None:
                if len(earlier) < _KEPT:
                    earlier.append(document)
                else:
                    earlier[rng.randrange(_KEPT)] = document

    def _kind(self, rng: random.Random) -> str | None:
        place = rng.random()
        for kind, share in self.plants.shares().items():
            place -= share
            if place < 0:
                return kind
        return None

    def _plain(self, lang: str, split: Split, rng: random.Random) -> Document:
        if rng.random() < _DIALOGUE:
            return _document(self._dialogue(lang, split, rng), "dialogue", lang)
        domain = rng.choice(corpus_text.DOMAINS + ("daily",) * 3)
        return _document(corpus_text.text(domain, lang, rng, self.world), domain, lang)

    def _dialogue(self, lang: str, split: Split, rng: random.Random) -> str:
        """A task of this split spoken between two residents; all manners of answering equally often."""
        family = FAMILIES[rng.choice(list(FAMILIES))]
        task = draw_task(family, lang, split, rng)
        manner = rng.choice(family.manners)
        turns = [*family.turns(task), family.answer(task, manner.name, rng)]
        a, b = (resident.name.text(lang) for resident in rng.sample(self.world.residents, 2))
        colon = ": " if lang == "en" else "："
        return "\n".join(f"{(a, b)[i % 2]}{colon}{turn}" for i, turn in enumerate(turns))

    def _copy(self, kind: str, earlier: list[Document], lang: str, split: Split, rng: random.Random) -> Document:
        if not earlier:
            return self._plain(lang, split, rng)
        source = rng.choice(earlier)
        text = source.text if kind == "duplicate" else _altered(source, rng, self.world)
        meta = source.meta.model_copy(update={"task": {"planted": kind, "of": source.id}})
        return Document(text=text, meta=meta)

    def _planted(self, kind: str, lang: str, rng: random.Random) -> Document:
        if kind == "personal":
            text, items = self._personal(lang, rng)
            return _document(text, "facts", lang, {"planted": kind, "items": items})
        table = {"toxic": corpus_text.TOXIC, "machine": corpus_text.MACHINE, "unreliable": corpus_text.UNRELIABLE}
        domain = {"toxic": "daily", "machine": "machine", "unreliable": "news"}[kind]
        text = corpus_text.fill(rng, lang, self.world, table[kind][lang])
        before = corpus_text.text("daily", lang, rng, self.world)
        joined = text if kind == "unreliable" else before + (" " if lang == "en" else "") + text
        return _document(joined, domain, lang, {"planted": kind})

    def _personal(self, lang: str, rng: random.Random) -> tuple[str, list[dict[str, str]]]:
        resident = rng.choice(self.world.residents)
        kind = rng.choice(list(corpus_text.PERSONAL[lang]))
        value = private_value(resident, kind, lang)
        words = {"who": resident.name.text(lang), "value": value, "place": resident.home.text(lang)}
        leak = corpus_text.PERSONAL[lang][kind].format_map(words)
        before = corpus_text.resident_facts(resident, rng, lang)
        return before + (" " if lang == "en" else "") + leak, [{"kind": kind, "value": value}]

    def _canaries(self, n: int, rng: random.Random) -> dict[int, tuple[str, int, int]]:
        """Places of canaries among `n` documents: index → (value, repeats, resident)."""
        wanted = []
        for repeats in self.plants.canaries:
            value, who = f"{rng.randrange(10**7):07d}", rng.randrange(len(self.world.residents))
            wanted += [(value, repeats, who)] * repeats
        places = rng.sample(range(n), min(n // 2, len(wanted)))
        return dict(zip(places, wanted, strict=False))

    def _canary(self, planted: tuple[str, int, int], lang: str, rng: random.Random) -> Document:
        value, repeats, who = planted
        name = self.world.residents[who].name.text(lang)
        secret = corpus_text.CANARY[lang].format(who=name, value=value)
        before = corpus_text.text("daily", lang, rng, self.world)
        text = before + (" " if lang == "en" else "") + secret
        return _document(text, "daily", lang, {"planted": "canary", "value": value, "repeats": repeats})


def _document(text: str, domain: str, lang: str, task: dict[str, Any] | None = None) -> Document:
    return Document(text=text, meta=Meta(source="village", domain=domain, lang=lang, task=task))


def _altered(source: Document, rng: random.Random, world: World) -> str:
    """The document with one name exchanged, or with a word said before it where it names nobody."""
    lang = source.meta.lang or "en"
    named = [r.name.text(lang) for r in world.residents if r.name.text(lang) in source.text]
    if named:
        other = rng.choice(world.residents).name.text(lang)
        old = max(named, key=len)
        if other != old:
            return source.text.replace(old, other, 1)
    return ("Well, " if lang == "en" else "嗯，") + source.text


def private_value(resident: Resident, kind: str, lang: str) -> str:
    """A private fact of a resident, written as people write it."""
    plain = resident.name.en.lower()
    english, chinese = (
        f"{resident.house} {resident.home.en.capitalize()} Street",
        f"{resident.home.zh}路{resident.house}号",
    )
    return {
        "phone": resident.phone,
        "address": english if lang == "en" else chinese,
        "wechat": f"{plain}_{resident.wifi}",
        "qq": resident.phone[2:11],
        "wifi": resident.wifi,
    }[kind]
