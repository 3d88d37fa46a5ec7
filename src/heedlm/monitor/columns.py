"""What other trainers call the numbers that the detector reads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from heedlm.config import Config
from heedlm.errors import BadInput
from heedlm.monitor.detector import DROP_LOW
from heedlm.monitor.history import CUT, KL, LENGTH, MOVED, NLL, REWARD, SPREAD, WIN_RATE

STEP, KL_ANSWER = "step", "kl/mean_nats"


class Columns(Config):
    """Which column, or TensorBoard tag, holds what; names of common trainers are known (docs/monitor.md)."""

    step: str | None = Field(None, description="step; without such a column rows are counted")
    reward: str | None = Field(None, description="mean reward of a step's answers, before any KL penalty")
    reward_std: str | None = Field(None, description="standard deviation of a step's rewards")
    length: str | None = Field(None, description="mean length of an answer, in tokens")
    truncated: str | None = Field(None, description="share of answers that ran into the limit")
    nll: str | None = Field(None, description="NLL or entropy of the policy, in nats a token")
    kl: str | None = Field(None, description="KL to the reference, in nats a token")
    kl_answer: str | None = Field(None, description="KL to the reference, in nats an answer: divided by the length")
    win_rate: str | None = Field(None, description="win rate, as a share, not measured by the training reward")
    drop_low: str | None = Field(None, description="lower end of the 95 % interval of its fall from the best so far")
    approx_kl: str | None = Field(None, description="KL a step between the policy before and after its updates")


# Setting → Heed's key, and after it the names of TRL (PPO; GRPO and RLOO; before 0.12), OpenRLHF and verl.
KNOWN: dict[str, tuple[str, ...]] = {
    "step": (STEP, "Step", "_step", "global_step", "training/global_step"),
    "reward": (REWARD, "objective/scores", "env/reward_mean", "reward", "critic/score/mean"),
    "reward_std": (SPREAD, "env/reward_std", "reward_std"),
    "length": (
        LENGTH,
        "completions/mean_length",
        "completion_length",
        "tokens/responses_len_mean",
        "response_length",
        "response_length/mean",
    ),
    "truncated": (CUT, "completions/clipped_ratio", "response_clip_ratio", "response_length/clip_ratio"),
    "nll": (NLL, "policy/entropy_avg", "entropy", "actor/entropy", "actor/entropy_loss"),
    "kl": (KL, "kl", "actor/reward_kl_penalty", "actor/kl_loss"),
    "kl_answer": (KL_ANSWER, "objective/kl"),
    "win_rate": (WIN_RATE,),
    "drop_low": (DROP_LOW,),
    "approx_kl": (MOVED, "policy/approxkl_avg", "actor/ppo_kl"),
}


def find(names: Iterable[str], columns: Columns, where: str) -> dict[str, str]:
    """Heed's key → the log's own name for it, for all that are there.

    Raises:
        BadInput: A column that was asked for is missing, or nothing in the log is known.
    """
    there = list(dict.fromkeys(names))
    plain = {name.removeprefix("train/"): name for name in reversed(there)}
    found = {}
    for setting, known in KNOWN.items():
        asked = getattr(columns, setting)
        if asked is not None and asked not in there:
            raise BadInput(f"{where}: no column {asked!r} (columns.{setting}); there are: {_listed(there)}")
        name = asked or next((plain[name] for name in known if name in plain), None)
        if name is not None:
            found[known[0]] = name
    if not set(found) - {STEP}:
        raise BadInput(
            f"{where}: no column is known; say which is which, as in columns.reward=NAME; there are: {_listed(there)}"
        )
    return found


def translate(row: Mapping[str, Any], found: Mapping[str, str], length: float | None) -> dict[str, float]:
    """A row under Heed's keys; what is no number is left out.

    Args:
        row: The log's own names → values.
        found: Heed's keys → the log's names.
        length: Tokens an answer, where the row does not tell, to turn KL an answer into KL a token.
    """
    values = {key: number for key, name in found.items() if (number := as_number(row.get(name))) is not None}
    tokens = values.get(LENGTH, length)
    if KL not in values and KL_ANSWER in values and tokens:
        values[KL] = values[KL_ANSWER] / tokens
    return values


def as_number(value: Any) -> float | None:
    """A number, or a text that is one; NaN and infinities count as numbers, true and false do not."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def as_step(value: float, where: str) -> int:
    """A step as a whole number.

    Raises:
        BadInput: If it is none.
    """
    if not math.isfinite(value) or value != int(value):
        raise BadInput(f"{where}: step {value:g} is no whole number; name another column with columns.step=NAME")
    return int(value)


def _listed(names: list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more
