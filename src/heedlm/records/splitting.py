"""Splitting rows where no held-out file was given: by content, so that one prompt never lands on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from heedlm.records.types import Message, content_id

T = TypeVar("T")


def split_by_prompt(rows: Sequence[T], prompts: Sequence[Sequence[Message]], share: float) -> tuple[list[T], list[T]]:
    """Rows to train on and rows to hold out, about `share` of the different prompts.

    The choice depends on each prompt's text alone: not on the order of the file, nor on a seed.

    Args:
        rows: What is split.
        prompts: The conversation that each row answers.
        share: Share held out, in [0, 1).
    """
    train: list[T] = []
    held_out: list[T] = []
    for row, prompt in zip(rows, prompts, strict=True):
        place = int(content_id("held out", *([m.role, m.content] for m in prompt)), 16) / 2**64
        (held_out if place < share else train).append(row)
    return train, held_out
