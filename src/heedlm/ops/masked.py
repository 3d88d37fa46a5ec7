"""Sums, means and whitening over the True cells of a boolean mask.

What lies outside the mask never matters, be it NaN or infinite. An empty mask gives 0, not NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heedlm.ops.shapes import Bool, Float


def widen(x: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """Half and bfloat16 tensors as float32, others as they are: sums need the digits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def masked_sum(
    x: Float[Tensor, "*S"], mask: Bool[Tensor, "*S"], dim: int | tuple[int, ...] | None = None
) -> Float[Tensor, "*R"]:
    """Sum of `x` over the True cells, over all dimensions or over `dim`."""
    inside = torch.where(mask, widen(x), 0.0)
    return inside.sum() if dim is None else inside.sum(dim=dim)


def masked_mean(
    x: Float[Tensor, "*S"], mask: Bool[Tensor, "*S"], dim: int | tuple[int, ...] | None = None
) -> Float[Tensor, "*R"]:
    """Mean of `x` over the True cells, over all dimensions or over `dim`; 0 where no cell is True."""
    count = mask.sum() if dim is None else mask.sum(dim=dim)
    return masked_sum(x, mask, dim) / count.clamp(min=1)


def masked_whiten(
    x: Float[Tensor, "*S"], mask: Bool[Tensor, "*S"], keep_mean: bool = False, eps: float = 1e-8
) -> Float[Tensor, "*S"]:
    """`x` with variance 1 over the True cells, and mean 0 unless `keep_mean`; 0 outside the mask.

    The variance is the population's, and `eps` is added to it, so that a single cell or a constant batch
    gives 0 (or the kept mean).
    """
    wide = widen(x)
    mean = masked_mean(wide, mask)
    centred = torch.where(mask, wide - mean, 0.0)
    variance = masked_mean(centred.square(), mask)
    white = centred * torch.rsqrt(variance + eps)
    return torch.where(mask, white + mean, 0.0) if keep_mean else white
