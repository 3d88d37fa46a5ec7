"""Best-of-n: how far it moves the policy, and what it gains, estimated from one pool of samples."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from heedlm.ops.shapes import Float


def best_of_n_kl(n: int) -> float:
    """KL (nats) between the best of n samples and the policy they come from: log n − (n − 1)/n.

    An upper bound, reached when answers practically never repeat. Source: Stiennon et al. 2020, appendix G.3.

    Raises:
        ValueError: n is less than 1.
    """
    if n < 1:
        raise ValueError(f"best of n needs n of at least 1, not {n}")
    return math.log(n) - (n - 1) / n


def unbiased_best_of_n(proxy: Float[Tensor, "*B N"], gold: Float[Tensor, "*B N"], n: int) -> Float[Tensor, "*B"]:
    """Expected gold score of the answer with the best proxy score among n drawn from the N given ones.

    Averages over every subset of size n: Σ_i C(i−1, n−1) · gold_(i) / C(N, n), samples sorted by proxy, i
    from 1. Answers whose proxies tie share their weight, so that the order of the samples never matters.
    Source: Nakano et al. 2021 (WebGPT), appendix I.

    Raises:
        ValueError: n is less than 1 or more than N.
    """
    pool = proxy.shape[-1]
    if not 1 <= n <= pool:
        raise ValueError(f"best of n needs n between 1 and the {pool} samples there are, not {n}")
    # The k lowest samples hold the best one in C(k, n) of the C(N, n) subsets.
    share = [math.comb(k, n) / math.comb(pool, n) for k in range(pool + 1)]
    lowest = torch.tensor(share, dtype=torch.float64, device=proxy.device)
    ordered = proxy.sort(dim=-1).values
    below = torch.searchsorted(ordered, proxy.contiguous(), right=False)
    up_to = torch.searchsorted(ordered, proxy.contiguous(), right=True)
    weights = (lowest[up_to] - lowest[below]) / (up_to - below)
    return (weights * gold.double()).sum(-1).to(gold.dtype)
