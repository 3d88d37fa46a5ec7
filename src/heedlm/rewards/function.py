"""A Python function of the user's own as the reward (docs/rewards.md)."""

from __future__ import annotations

import inspect
import linecache
import math
import sys
import traceback
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from pydantic import Field

from heedlm.config import Config
from heedlm.errors import BadInput, NotFinite
from heedlm.models.chat import Chat
from heedlm.records import Prompt
from heedlm.rewards.types import Episodes, Reward


class Function(Config):
    """`score(prompt, response)` or `score(prompt, response, meta)` in a Python file of the user's (docs/rewards.md).

    It returns a number, or a list with one number for each token of the response, EOS included. The list's last
    number is the score of the whole answer, as a plain number is; the others are rewards of single tokens. So a
    number x means the same as a list of zeros that ends with x.
    """

    name: Literal["function"] = "function"
    path: Path = Field(description="Python file with score(prompt, response), or with score(prompt, response, meta)")

    def open(self, chat: Chat, device: torch.device | str = "cpu") -> FunctionReward:
        """Run the file, which must lie on this machine, and take its function.

        Raises:
            BadInput: No such file, it breaks, or it has no function that takes a prompt and a response.
        """
        return FunctionReward(self.path, chat)


class FunctionReward:
    """Scores answers with the `score` of a file, or with its `score_batch`, which is given lists, if it has one."""

    def __init__(self, path: Path, chat: Chat) -> None:
        module = _run_file(path)
        found = {name: getattr(module, name, None) for name in ("score_batch", "score")}
        self._name = next((name for name, function in found.items() if callable(function)), "")
        if not self._name:
            raise BadInput(f"{path}: has no function score; write one: def score(prompt, response): return …")
        self._function: Callable[..., Any] = getattr(module, self._name)
        self._takes_meta = _takes_meta(self._function, path, self._name)
        self._path, self._chat = path, chat
        self._pieces: dict[int, str] = {}

    def score(self, episodes: Episodes) -> Reward:
        """(B,) scores, and (B, T) rewards of single tokens if any list was returned.

        Raises:
            BadInput: The function broke, or returned neither a number nor a list of the right length.
            NotFinite: It returned NaN or an infinity.
        """
        like = episodes.rollouts.logps
        first, ends = episodes.rollouts.prompt_lengths.tolist(), episodes.rollouts.lengths.tolist()
        steps = torch.zeros(like.shape, dtype=like.dtype)
        totals, listed = [], False
        for row, value in enumerate(self._values(episodes)):
            numbers = self._numbers(value, ends[row] - first[row], self._place(episodes.prompts[row]))
            totals.append(numbers[-1])
            if isinstance(value, list):
                listed = True
                steps[row, first[row] : ends[row] - 1] = torch.tensor(numbers[:-1])
        total, steps = torch.tensor(totals, dtype=like.dtype, device=like.device), steps.to(like.device)
        return Reward(total, {"steps": steps.sum(1)}, steps) if listed else Reward(total)

    def _values(self, episodes: Episodes) -> list[Any]:
        """What the function says of each answer, arrays and tensors as plain numbers and lists."""
        prompts = [prompt.messages[-1].content for prompt in episodes.prompts]
        columns: list[Sequence[Any]] = [prompts, episodes.texts]
        if self._takes_meta:
            columns.append(self._metas(episodes))
        if self._name == "score":
            rows = zip(episodes.prompts, *columns, strict=True)
            return [_plain(self._call(self._place(prompt), *row)) for prompt, *row in rows]
        place = f"{len(prompts)} answers"
        values = _plain(self._call(place, *map(list, columns)))
        if not isinstance(values, list) or len(values) != len(prompts):
            raise BadInput(
                f"{self._path}: score_batch of {place} returned {_shown(values)}; return a list with an entry for each"
            )
        return [_plain(value) for value in values]

    def _call(self, place: str, *given: Any) -> Any:
        try:
            return self._function(*given)
        except Exception as error:
            raise BadInput(f"{_at(self._path, error)}: {_told(error)}, in {self._name} of {place}") from error

    def _metas(self, episodes: Episodes) -> list[dict[str, Any]]:
        """What is known beside prompt and response."""
        rollouts = episodes.rollouts
        rows = zip(episodes.prompts, rollouts.responses(), rollouts.ended.tolist(), strict=True)
        return [
            {
                **prompt.meta.model_dump(),
                "id": prompt.id,
                "messages": [message.model_dump() for message in prompt.messages],
                "ended": ended,
                "tokens": [self._piece(token) for token in response],
            }
            for prompt, response, ended in rows
        ]

    def _piece(self, token: int) -> str:
        """A token's text, "" for EOS; kept, since each is asked for many times."""
        if token not in self._pieces:
            self._pieces[token] = self._chat.decode([token])
        return self._pieces[token]

    def _numbers(self, value: Any, tokens: int, place: str) -> list[float]:
        """One number for the last token, or one for each."""
        values = value if isinstance(value, list) else [value]
        returned = f"{self._path}: {self._name} of {place} returned"
        if not all(isinstance(item, Real) for item in values):
            raise BadInput(f"{returned} {_shown(value)}; return a number, or a list with a number for each token")
        if isinstance(value, list) and len(value) != tokens:
            raise BadInput(f"{returned} a list of {len(value)} numbers for {tokens} tokens; one for each, EOS too")
        numbers = [float(item) for item in values]
        if not all(map(math.isfinite, numbers)):
            bad = next(i for i, number in enumerate(numbers) if not math.isfinite(number))
            where = f" for token {bad + 1} of {tokens}" if isinstance(value, list) else ""
            raise NotFinite(f"{returned} {numbers[bad]}{where}; return finite numbers")
        return numbers

    def _place(self, prompt: Prompt) -> str:
        return f"prompt {prompt.id} ({_shown(prompt.messages[-1].content)})"


def _run_file(path: Path) -> ModuleType:
    """The file as a module. It is run as it is read, so that what runs is what its fingerprint says."""
    if path.suffix != ".py" or not path.is_file():
        raise BadInput(f"{path}: no such Python file; give the path of a .py file on this machine with score")
    module = ModuleType(f"heed_reward_{path.stem}")
    module.__file__ = str(path)
    # Dataclasses and pickles look a class's module up by its name.
    sys.modules[module.__name__] = module
    linecache.checkcache(str(path))
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise BadInput(f"{_at(path, error)}: {_told(error)}, as the file was read") from error
    return module


def _takes_meta(function: Callable[..., Any], path: Path, name: str) -> bool:
    """Whether a function takes a third argument."""
    signature = inspect.signature(function)
    for count in (3, 2):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count == 3
    wanted = "prompts, responses" if name == "score_batch" else "prompt, response"
    raise BadInput(f"{path}: {name}{signature} must take ({wanted}), or a third argument for the rest")


def _at(path: Path, error: BaseException) -> str:
    """`file:line` of the innermost line of the user's file that an error came through."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _told(error: BaseException) -> str:
    """An error in one line."""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    first = (message.strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {first}"


def _plain(value: Any) -> Any:
    """Arrays, tensors and tuples as lists, their scalars as numbers."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
