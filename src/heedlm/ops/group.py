"""Advantages from the other answers to the same prompt, where no critic is trained, and the price of length."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from heedlm.ops.masked import widen
from heedlm.ops.shapes import Bool, Float, Int

Baseline = Literal["none", "mean", "leave_one_out"]
Deviation = Literal["none", "sample", "population"]

# Answers that are nearly alike are not blown up. To the sample deviation it is added, as in TRL; of the other it is the
# least value.
_SMALLEST = 1e-4


def group_baseline(scores: Float[Tensor, "P K"], kind: Baseline) -> Float[Tensor, "P K"]:
    """What each answer's score is compared with.

    `mean` is that of all K answers to the prompt, `leave_one_out` that of the K − 1 others, `none` is 0.
    Source: Shao et al. 2024, eq. 3; Kool et al. 2019, section 3 (RLOO).

    Raises:
        ValueError: There are no others to compare with.
    """
    wide = widen(scores)
    if kind == "none":
        return torch.zeros_like(wide)
    answers = scores.shape[-1]
    if answers < 2:
        raise ValueError(f"a {kind} baseline needs at least 2 answers to each prompt, not {answers}")
    total = wide.sum(-1, keepdim=True)
    return (total - wide) / (answers - 1) if kind == "leave_one_out" else (total / answers).expand_as(wide)


def group_deviation(scores: Float[Tensor, "P K"], kind: Deviation) -> Float[Tensor, "P 1"]:
    """What a prompt's advantages are divided by: a deviation of its K scores, or 1.

    `sample` divides the squares by K − 1 and adds 1e-4, `population` divides by K and is at least 1e-4; libraries
    differ. Source: Shao et al. 2024, eq. 3.

    Raises:
        ValueError: One answer has no deviation.
    """
    wide = widen(scores)
    if kind == "none":
        return torch.ones_like(wide[:, :1])
    if scores.shape[-1] < 2:
        raise ValueError(f"a deviation needs at least 2 answers to each prompt, not {scores.shape[-1]}")
    if kind == "sample":
        return wide.std(dim=-1, keepdim=True) + _SMALLEST
    return wide.std(dim=-1, keepdim=True, correction=0).clamp(min=_SMALLEST)


def rewards_to_go(rewards: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """The reward of each response token and of all after it; 0 elsewhere."""
    inside = torch.where(mask, widen(rewards), 0.0)
    return torch.where(mask, inside.flip(1).cumsum(1).flip(1), 0.0)


def all_alike(scores: Float[Tensor, "P K"]) -> Bool[Tensor, "P"]:
    """True for prompts whose answers all have the same score: nothing can be learned from comparing them."""
    return scores.amax(-1) == scores.amin(-1)


def overlong_penalty(lengths: Int[Tensor, "B"], limit: int, share: float) -> Float[Tensor, "B"]:
    """0 for answers that leave the last `share` of the token limit alone, from there rising to 1 at the limit.

    Source: Yu et al. 2025 (DAPO), eq. 13.

    Args:
        lengths: Tokens of each answer, its end included.
        limit: Most tokens an answer may have.
        share: Between 0 (no penalty) and 1.
    """
    room = share * limit
    if not room:
        return torch.zeros(lengths.shape, device=lengths.device)
    return ((lengths.float() - (limit - room)) / room).clamp(0, 1)
