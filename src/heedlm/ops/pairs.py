"""What the losses over preferred and rejected answers share: means per token, odds, and what is logged of each."""

from __future__ import annotations

import torch
from torch import Tensor

from heedlm.ops.masked import widen
from heedlm.ops.shapes import Bool, Float, Int
from heedlm.ops.types import PairLogps

# Nearest to 0 that a mean log-probability may come: the odds of what is certain are infinite.
_CERTAIN = -1e-6


def per_token(logps: Float[Tensor, "B"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    """Mean log-probability (nats a token) of answers whose sums and lengths (tokens) are given."""
    return widen(logps) / lengths.clamp(min=1)


def log_odds(mean_logps: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
    """log(p / (1 − p)) with log p the mean log-probability (nats a token); bounded where p is nearly 1.

    Source: Hong et al. 2024, eq. 4.
    """
    bounded = mean_logps.clamp(max=_CERTAIN)
    return bounded - torch.log(-torch.expm1(bounded))


def half_right(difference: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """1 where a difference is above 0, ½ where it is 0, else 0."""
    return 0.5 + 0.5 * difference.sign()


@torch.no_grad()
def pair_metrics(chosen: Float[Tensor, "B"], rejected: Float[Tensor, "B"], policy: PairLogps) -> dict[str, Tensor]:
    """Means over pairs, without gradient.

    Args:
        chosen: Implicit rewards of the preferred answers, in the method's own units.
        rejected: Those of the rejected ones.
        policy: Log-probabilities under the policy.

    Returns:
        `reward/chosen`, `reward/rejected` and their difference `reward/margin`; `accuracy`, the share of pairs in
        which the preferred answer has the higher reward (equal: ½); `logps/chosen` and `logps/rejected`, nats an
        answer. A falling `logps/chosen` means that good answers are becoming unlikely too.
    """
    return {
        "reward/chosen": chosen.mean(),
        "reward/rejected": rejected.mean(),
        "reward/margin": (chosen - rejected).mean(),
        "accuracy": half_right(chosen - rejected).mean(),
        "logps/chosen": widen(policy.chosen).mean(),
        "logps/rejected": widen(policy.rejected).mean(),
    }


@torch.no_grad()
def single_metrics(
    rewards: Float[Tensor, "B"], base: Tensor, logps: Float[Tensor, "B"], good: Bool[Tensor, "B"]
) -> dict[str, Tensor]:
    """The same for answers that stand alone, as sums over one kind divided by the number of both kinds.

    Only so do microbatches that hold more good answers than others add up; `of_their_own` makes means of them.

    Args:
        rewards: Implicit rewards.
        base: Reward (scalar) above which an answer counts as called good.
        logps: Log-probabilities (nats an answer) under the policy.
        good: True for good answers.
    """
    wide = widen(logps)
    share = good.to(wide.dtype)
    return {
        "desirable": share.mean(),
        "reward/chosen": (rewards * share).mean(),
        "reward/rejected": (rewards * (1 - share)).mean(),
        "accuracy": half_right(torch.where(good, rewards - base, base - rewards)).mean(),
        "logps/chosen": (wide * share).mean(),
        "logps/rejected": (wide * (1 - share)).mean(),
    }


def of_their_own(values: dict[str, float]) -> dict[str, float]:
    """Metrics of `single_metrics`, summed up over a batch, as means over good and over bad answers alone.

    Where there is no answer of a kind its means are left out. `reward/margin` is added where there are both.
    """
    share = values["desirable"]
    found = dict(values)
    for kind, part in (("chosen", share), ("rejected", 1 - share)):
        for name in (f"reward/{kind}", f"logps/{kind}"):
            if part > 1e-9:
                found[name] = values[name] / part
            else:
                del found[name]
    if "reward/chosen" in found and "reward/rejected" in found:
        found["reward/margin"] = found["reward/chosen"] - found["reward/rejected"]
    return found
