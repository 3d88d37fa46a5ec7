"""A constitution: principles that answers are criticised, revised and compared by."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError, field_validator

from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.records import Criterion, Prompt

OWN = Path(__file__).with_name("constitution.toml")
Use = Literal["critique", "revision", "comparison"]


class Principle(Config):
    """One principle: what it is about, and its requests in each language (`en`, `zh`, …).

    `critique` asks what is wrong with an answer, `revision` for a better one, `comparison` which of two is better.
    """

    id: str
    criterion: Criterion = "overall"
    critique: Mapping[str, str]
    revision: Mapping[str, str]
    comparison: Mapping[str, str]

    @field_validator("critique", "revision", "comparison")
    @classmethod
    def _said(cls, texts: Mapping[str, str]) -> Mapping[str, str]:
        if not texts or not all(text.strip() for text in texts.values()):
            raise ValueError("needs a text in at least one language")
        return texts

    def request(self, use: Use, lang: str | None) -> str:
        """The request in this language, or in the first there is."""
        texts: Mapping[str, str] = getattr(self, use)
        return texts.get(lang or "") or next(iter(texts.values()))


@dataclass(frozen=True)
class Case:
    """An answer to a prompt, and the principle it is reviewed by, if any."""

    prompt: Prompt
    answer: str
    principle: Principle | None = None

    def request(self, use: Use) -> str:
        """The principle's request in the prompt's language."""
        if self.principle is None:
            raise ValueError("a case without a principle has no request")
        return self.principle.request(use, self.prompt.meta.lang)


def principles(path: str | Path | None = None) -> list[Principle]:
    """The principles of a TOML file with tables `[[principle]]`; without a path those that come with Heed.

    Raises:
        BadInput: The file cannot be read, or a principle in it is not sound.
    """
    path = OWN if path is None else Path(path)
    try:
        raw: Any = tomllib.loads(path.read_text(encoding="utf-8")).get("principle", [])
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); give constitution=FILE.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: is no TOML file: {error}") from None
    if not isinstance(raw, list) or not raw:
        raise BadInput(
            f"{path}: holds no principle; write tables [[principle]] with id, critique, revision, comparison"
        )
    found = [_principle(path, number, each) for number, each in enumerate(raw, start=1)]
    twice = {each.id for each in found if sum(other.id == each.id for other in found) > 1}
    if twice:
        raise BadInput(f"{path}: principle {min(twice)!r} comes twice; give each an id of its own")
    return found


def draw(found: Sequence[Principle], *seed: object) -> Principle:
    """A principle at random; the same seed gives the same one."""
    return random.Random(" ".join(map(str, seed))).choice(found)


def _principle(path: Path, number: int, raw: Any) -> Principle:
    try:
        return Principle.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path}: principle {number}: {field}: {first['msg'].removeprefix('Value error, ')}") from None
