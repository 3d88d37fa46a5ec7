"""The words of the pages in Chinese, by the English ones; a file for each part of the application."""

from __future__ import annotations

from heedlm.web.words import annotate, base, chat, manage, runs

ZH: dict[str, str] = {**base.ZH, **chat.ZH, **annotate.ZH, **manage.ZH, **runs.ZH}


def in_language(text: str, language: str) -> str:
    """A text of the pages in a language; English where it has no other."""
    return ZH.get(text, text) if language == "zh" else text
