"""The words of the pages in Chinese, by the English ones; a file for each part of the application."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

from heedlm.web.words import annotate, base, chat, manage, runs

ZH: dict[str, str] = {**base.ZH, **chat.ZH, **annotate.ZH, **manage.ZH, **runs.ZH}


def in_language(text: str, language: str) -> str:
    """A text of the pages in a language; English where it has no other."""
    return ZH.get(text, text) if language == "zh" else text


def sentence_in(text: str, forms: Iterable[str], language: str, titles: Mapping[str, str] | None = None) -> str:
    """A sentence that was filled in before its reader was known, in their language: told by the form it has.

    Args:
        text: The English sentence.
        forms: What sentences of its sort look like, with {names} for what is filled in.
        language: Of the reader.
        titles: What the pages call something that may be filled in; anything else stays as it is.
    """
    known = titles or {}
    for form in forms:
        found = _pattern(form).fullmatch(text)
        if found is not None:
            values = found.groupdict().items()
            filled = {name: in_language(known[value], language) if value in known else value for name, value in values}
            return in_language(form, language).format(**filled)
    return text


@cache
def _pattern(form: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w+\})", form)
    return re.compile("".join(f"(?P<{part[1:-1]}>.+?)" if part[:1] == "{" else re.escape(part) for part in parts))
