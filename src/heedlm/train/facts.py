"""What the logs keep of each buffer of rollouts (docs/methods.md §4.4): drift, certainty, length, reward."""

from __future__ import annotations

import torch
from torch import Tensor

from heedlm.ops.kl import k1, k3
from heedlm.ops.masked import masked_mean
from heedlm.ops.types import Rollouts


def rollout_facts(rollouts: Rollouts, logps: Tensor, reference: Tensor, spread: Tensor) -> dict[str, float]:
    """Means over response tokens, or over answers where the name says so.

    Args:
        rollouts: One buffer.
        logps: (B, T) log-probability (nats) of each token under the policy that sampled it.
        reference: (B, T) the same under the reference.
        spread: (B, T) entropy (nats) of the policy at each token.
    """
    mask = rollouts.response_mask
    drift = k1(logps, reference)
    facts = {
        "length/mean": rollouts.response_lengths.float().mean(),
        "length/truncated": (~rollouts.ended).float().mean(),
        "nll/policy": -masked_mean(logps, mask),
        "nll/reference": -masked_mean(reference, mask),
        "perplexity/policy": (-masked_mean(logps, mask)).exp(),
        "perplexity/reference": (-masked_mean(reference, mask)).exp(),
        "kl/mean_nats": torch.where(mask, drift, 0.0).sum() / len(drift),
        "kl/token_nats": masked_mean(drift, mask),
        "kl/k3_token_nats": masked_mean(k3(logps, reference), mask),
        "entropy/mean": masked_mean(spread, mask),
        "gap/engine_trainer": masked_mean((rollouts.logps - logps).abs(), mask),
    }
    return {name: float(value) for name, value in facts.items()}


def reward_facts(scores: Tensor, shaped: Tensor) -> dict[str, float]:
    """Distribution of the raw scores (B,) in the source's units, and the mean of the shaped ones."""
    points = torch.tensor([0.01, 0.5, 0.99], device=scores.device)
    low, middle, high = torch.quantile(scores.float(), points).tolist()
    return {
        "reward/mean": float(scores.mean()),
        "reward/std": float(scores.std(correction=0)),
        "reward/p01": low,
        "reward/p50": middle,
        "reward/p99": high,
        "reward/shaped_mean": float(shaped.mean()),
    }


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 − Var(returns − values) ÷ Var(returns) over response tokens: 1 is a perfect critic, 0 a constant one."""
    spread = returns[mask].var(correction=0)
    residual = (returns - values)[mask].var(correction=0)
    return float(1 - residual / spread.clamp(min=1e-8))
