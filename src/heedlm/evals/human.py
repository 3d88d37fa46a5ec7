"""Human verdicts of a blind comparison: how often people prefer the first model's answer, with intervals.

The file is what `heed serve` exports of such a project: a first line that says what is compared, then one line a
prompt with the verdicts `first`, `second` or `same`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heedlm.errors import BadInput
from heedlm.evals.bootstrap import Interval
from heedlm.evals.winrate import LOSS, TIE, WIN, WinRate, bootstrap_win_rate, win_rate
from heedlm.runs import run_of

_OUTCOME = {"first": WIN, "same": TIE, "second": LOSS}


@dataclass(frozen=True)
class HumanWinRate:
    """How often people prefer the first model.

    `win_rate` counts prompts by the majority of their verdicts (as many for either: a tie), prompts with identical
    answers among the ties. `verdicts` is the mean of all verdicts with a bootstrap interval over prompts, which knows
    that verdicts on one prompt belong together; None if there is none.
    """

    first: str
    second: str
    prompts: int
    identical: int
    not_judged: int
    win_rate: WinRate
    verdicts: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {**asdict(self), "win_rate": self.win_rate.to_dict()}


def count(rows: Sequence[Mapping[str, Any]], seed: int = 0) -> HumanWinRate:
    """Count the lines of a verdict file.

    Args:
        rows: What is compared, then each prompt.
        seed: Of the bootstrap.

    Raises:
        BadInput: There is no verdict yet.
    """
    facts, said = rows[0], [row["verdicts"] for row in rows[1:]]
    identical = int(facts["identical"])
    judged = [[_OUTCOME[verdict] for verdict in verdicts] for verdicts in said if verdicts]
    if not judged and not identical:
        raise BadInput("nobody has compared anything yet")
    outcomes = [_majority(values) for values in judged] + [TIE] * identical
    each = [value for values in judged for value in values] + [TIE] * identical
    prompt = [place for place, values in enumerate(judged) for _ in values]
    prompt += range(len(judged), len(judged) + identical)
    return HumanWinRate(
        first=str(facts["first"]),
        second=str(facts["second"]),
        prompts=len(said) + identical,
        identical=identical,
        not_judged=len(said) - len(judged),
        win_rate=win_rate(outcomes),
        verdicts=bootstrap_win_rate(each, prompt, seed=seed),
    )


def _majority(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return WIN if mean > TIE else LOSS if mean < TIE else TIE


def human_win_rate(path: str | Path, seed: int = 0, model: str | None = None) -> HumanWinRate:
    """Read a verdict file and count it.

    Args:
        path: The file.
        seed: Of the bootstrap.
        model: A run or model: where the second answers are known to be its, it is the one that wins or loses.

    Raises:
        BadInput: It is not there or no verdict file, a line is wrong, or it holds no verdict.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from None
    rows = [_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise BadInput(f"{path}: is empty")
    maker = run_of(model) if model is not None else None
    names = {model, f"{maker.parent.name}/{maker.name}"} if maker else {model}
    if rows[0].get("second_model") in names - {None} and rows[0].get("first_model") not in names:
        rows = _turned(rows)
    return count(rows, seed)


def _turned(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same comparison with the second model called the first."""
    other = {"first": "second", "second": "first", "same": "same"}
    facts = {**rows[0], "first": rows[0]["second"], "second": rows[0]["first"]}
    return [facts, *({**row, "verdicts": [other[verdict] for verdict in row["verdicts"]]} for row in rows[1:])]


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if number == 1:
            sound = row["heed"] == "human verdicts" and {"first", "second"} <= set(row) and int(row["identical"]) >= 0
        else:
            sound = isinstance(row["verdicts"], list) and set(row["verdicts"]) <= set(_OUTCOME)
    except (ValueError, TypeError, KeyError):
        sound = False
    if not sound:
        what = "what is compared" if number == 1 else "a prompt with verdicts first, second or same"
        raise BadInput(f"{path}: line {number}: is not {what}: export the verdicts of a blind comparison again")
    return dict(row)
