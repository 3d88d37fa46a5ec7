"""Generalised advantage estimation over the response tokens of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from heedlm.ops.masked import widen
from heedlm.ops.shapes import Bool, Float


def gae(
    rewards: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    gamma: float = 1.0,
    lam: float = 0.95,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Advantages and returns of response tokens; 0 elsewhere.

    δ_t = r_t + γ·V_{t+1} − V_t, A_t = Σ_l (γλ)^l δ_{t+l}, R_t = A_t + V_t, where V after the last response
    token is 0. Source: Schulman et al. 2016, eq. 16.

    Args:
        rewards: Reward of each token (B, T), KL penalty included.
        values: `values[:, t]` is V of the state that predicts token t (B, T).
        mask: True on response tokens (B, T); contiguous in each row, beginning anywhere. What rewards and
            values hold outside it does not matter.
        gamma: Discount in [0, 1].
        lam: λ in [0, 1]: 0 trusts the critic, 1 the observed rewards.

    Returns:
        Advantages (B, T) and returns (B, T), in reward units, in float32 or wider.
    """
    r, v = torch.where(mask, widen(rewards), 0.0), torch.where(mask, widen(values), 0.0)
    # A zero column after the end serves as V_{T+1} and A_{T+1}. Since both are 0 outside the mask, a row's
    # scan starts afresh at its own last response token.
    next_values = torch.cat([v[:, 1:], torch.zeros_like(v[:, :1])], dim=1)
    deltas = torch.where(mask, r + gamma * next_values - v, 0.0)
    decay = gamma * lam * mask.to(deltas.dtype)
    carry = torch.zeros_like(deltas[:, 0]) if deltas.shape[1] else deltas.new_zeros(deltas.shape[0])
    backwards: list[Tensor] = []
    for t in range(deltas.shape[1] - 1, -1, -1):
        carry = deltas[:, t] + decay[:, t] * carry
        backwards.append(carry)
    advantages = torch.stack(backwards[::-1], dim=1) if backwards else deltas
    return advantages, advantages + v
