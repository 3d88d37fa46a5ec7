"""Rewards that can be checked: sums with their steps, verse of a fixed form, and the layout of lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, PositiveInt

from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.models.chat import Chat
from heedlm.records import Prompt
from heedlm.rewards.rules import _Rule
from heedlm.rewards.types import Episodes, Reward
from heedlm.train.steps import split_steps

# Answers are untrusted: a number of thousands of digits is none.
_SUM = r"\d{1,15}(?:\s*[-+*×]\s*\d{1,15})+"
_EQUATION = re.compile(rf"({_SUM})\s*=\s*(-?\d{{1,18}})(?!\d)")
_NUMBER = re.compile(r"-?(?<!\d)\d{1,18}(?!\d)")
_BREAK = re.compile(r"[\n/，。！？；,.!?;]+")
_CHINESE = re.compile(r"[\u3400-\u9fff]+")


class Sums(Config):
    """Arithmetic, each component with its own checker: do the equations hold, and is the result right?

    The score is the mean of the share of equations that hold (0 where none is shown) and of 1[the last number is the
    result]. The result is that of the prompt's own sum, "2 + 3 × 4", or of the village's task.
    """

    name: Literal["sums"] = "sums"

    def open(self, chat: Chat, device: torch.device | str = "cpu") -> Sums:
        """Nothing to load."""
        return self

    def score(self, episodes: Episodes) -> Reward:
        """(B,) scores in [0, 1], with `steps` and `result` as parts.

        Raises:
            BadInput: A prompt shows no sum.
        """
        like = episodes.rollouts.logps
        steps, results = [], []
        for prompt, text in zip(episodes.prompts, episodes.texts, strict=True):
            wanted = wanted_result(prompt)
            if wanted is None:
                raise BadInput(f"prompt {prompt.id}: shows no sum such as 2 + 3; use another reward for it")
            held = equations_hold(text)
            steps.append(sum(held) / len(held) if held else 0.0)
            results.append(float(_last_number(text) == wanted))
        parts = {"steps": steps, "result": results}
        made = {name: torch.tensor(v, dtype=like.dtype, device=like.device) for name, v in parts.items()}
        return Reward((made["steps"] + made["result"]) / 2, made)


class Verse(_Rule):
    """One point for verse of so many lines with exactly so many Chinese characters each, as a quatrain has; else none.

    A line ends at a line break, a slash or a mark of punctuation.
    """

    name: Literal["verse"] = "verse"
    lines: PositiveInt = Field(4, description="lines wanted")
    characters: PositiveInt = Field(7, description="Chinese characters of each line")

    def measure(self, text: str, ended: bool) -> float:
        """Reward, 0 or 1."""
        lines = [line.strip() for line in _BREAK.split(text)]
        lengths = [len(line) if _CHINESE.fullmatch(line) else -1 for line in lines if line]
        return float(lengths == [self.characters] * self.lines)


class Layout(_Rule):
    """One point for so many lines, none empty and none longer than so many characters; else none."""

    name: Literal["layout"] = "layout"
    lines: PositiveInt = Field(1, description="lines wanted")
    characters: PositiveInt = Field(80, description="characters of a line at most")

    def measure(self, text: str, ended: bool) -> float:
        """Reward, 0 or 1."""
        lines = text.strip().splitlines()
        return float(len(lines) == self.lines and all(0 < len(line.strip()) <= self.characters for line in lines))


def equations_hold(text: str) -> list[bool]:
    """Whether each equation "2 + 3 = 5" of a text holds, in order."""
    return [_value(sum_) == int(result) for sum_, result in _EQUATION.findall(text)]


def wanted_result(prompt: Prompt) -> int | None:
    """The result of the sum that a prompt asks for; None if it shows none."""
    task = prompt.meta.task
    if task is not None and task.get("family") == "sum":
        return sum(int(task["slots"][name]) for name in ("a", "b", "c"))
    found = re.search(_SUM, prompt.messages[-1].content)
    return None if found is None else _value(found[0])


def step_labels(prompt: Prompt, text: str) -> tuple[list[str], list[int]]:
    """An answer's steps and what a checker says of each: right (1), neutral (0) or wrong (−1).

    A step with equations is right if all of them hold. The last step, if it has numbers but no equation, is right if
    its last number is the result. Other steps are neutral.
    """
    steps = split_steps(text)
    labels = [_label(equations_hold(step)) for step in steps]
    wanted, said = wanted_result(prompt), _last_number(steps[-1])
    if said is not None and wanted is not None and labels[-1] == 0:
        labels[-1] = 1 if said == wanted else -1
    return steps, labels


def _label(held: Sequence[bool]) -> int:
    return 0 if not held else 1 if all(held) else -1


def _last_number(text: str) -> int | None:
    found = _NUMBER.findall(text)
    return int(found[-1]) if found else None


def _value(text: str) -> int:
    """Value of a sum of products, read from left to right: "2 + 3 × 4" is 14."""
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    total, term, sign = 0, numbers[0], 1
    for mark, number in zip(re.findall(r"[-+*×]", text), numbers[1:], strict=True):
        if mark in "*×":
            term *= number
        else:
            total, term, sign = total + sign * term, number, -1 if mark == "-" else 1
    return total + sign * term
