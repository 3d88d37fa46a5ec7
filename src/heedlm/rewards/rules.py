"""Rewards that a rule computes from the text alone."""

from __future__ import annotations

import re
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from heedlm.config import Config
from heedlm.models.chat import Chat
from heedlm.rewards.types import Episodes, Reward

_SENTENCE_END = (".", "!", "?", '."', '!"', '?"', "。", "！", "？", "。”", "！”", "？”")
# A Chinese character counts as a word: no spaces tell where words end.
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")


class _Rule(Config):
    """A reward of the text; subclasses say what `measure` is."""

    def open(self, chat: Chat, device: torch.device | str = "cpu") -> _Rule:
        """Nothing to load."""
        return self

    def measure(self, text: str, ended: bool) -> float:
        """Reward of one answer."""
        raise TypeError(f"{type(self).__name__} does not say what it measures")

    def score(self, episodes: Episodes) -> Reward:
        """(B,) measures of the texts."""
        ended = episodes.rollouts.ended.tolist()
        values = [self.measure(text, done) for text, done in zip(episodes.texts, ended, strict=True)]
        like = episodes.rollouts.logps
        return Reward(torch.tensor(values, dtype=like.dtype, device=like.device))


class EndsWell(_Rule):
    """One point for ending by itself at the end of a sentence, less the share of repeated 3-word sequences.

    Two plain measures of the text: 1[EOS, last character closes a sentence] − seq-rep-3, the share of trigrams that
    occurred before in the answer (Welleck et al. 2020), over lower-case words; −1 for fewer than `min_words` words.
    """

    name: Literal["ends_well"] = "ends_well"
    min_words: PositiveInt = Field(20, description="an answer of fewer words gets −1")

    def measure(self, text: str, ended: bool) -> float:
        """Reward in [−1, 1]."""
        words = _WORD.findall(text.lower())
        if len(words) < self.min_words:
            return -1.0
        trigrams = list(zip(words, words[1:], words[2:], strict=False))
        repeated = 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0
        return float(ended and text.rstrip().endswith(_SENTENCE_END)) - repeated


class NearLength(_Rule):
    """Closeness of the answer's length to a wished one: 1 − |words − wished| ÷ wished, at least −1."""

    name: Literal["near_length"] = "near_length"
    words: PositiveFloat = Field(30.0, description="wished number of words")

    def measure(self, text: str, ended: bool) -> float:
        """Reward in [−1, 1]."""
        return max(-1.0, 1 - abs(len(_WORD.findall(text)) - self.words) / self.words)


class Pattern(_Rule):
    """One point if a regular expression is found in the answer, else none."""

    name: Literal["pattern"] = "pattern"
    regex: str = Field(description="regular expression looked for in the answer")

    @field_validator("regex")
    @classmethod
    def _sound(cls, regex: str) -> str:
        try:
            re.compile(regex)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return regex

    def measure(self, text: str, ended: bool) -> float:
        """Reward, 0 or 1."""
        return float(re.search(self.regex, text) is not None)
