"""Held-out rows where no held-out file was given."""

from __future__ import annotations

from heedlm.records import Message
from heedlm.records.splitting import split_by_prompt


def _prompt(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


def test_a_prompt_never_lands_on_both_sides_whatever_the_order() -> None:
    prompts = [_prompt(f"question {i % 400}") for i in range(1200)]
    rows = list(range(1200))
    train, held_out = split_by_prompt(rows, prompts, 0.1)
    assert sorted(train + held_out) == rows
    assert {i % 400 for i in train}.isdisjoint({i % 400 for i in held_out})
    assert 0.06 < len(held_out) / 1200 < 0.14
    backwards, held_backwards = split_by_prompt(rows[::-1], prompts[::-1], 0.1)
    assert sorted(backwards) == train
    assert sorted(held_backwards) == held_out


def test_nothing_is_held_out_for_a_share_of_zero() -> None:
    assert split_by_prompt([1, 2], [_prompt("a"), _prompt("b")], 0.0) == ([1, 2], [])
