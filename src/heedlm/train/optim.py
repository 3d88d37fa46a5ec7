"""Optimiser and learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import nn

from heedlm.config import Config


class Optim(Config):
    """AdamW (Loshchilov & Hutter 2019) with warm-up, a schedule and a global gradient-norm clip."""

    lr: PositiveFloat = Field(1e-3, description="peak learning rate")
    schedule: Literal["constant", "linear", "cosine"] = Field("cosine", description="shape after the warm-up")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps over which the rate rises from zero")
    final: float = Field(0.1, ge=0, le=1, description="rate at the end, as a share of the peak")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of AdamW's first moment")
    beta2: float = Field(0.95, ge=0, lt=1, description="decay of AdamW's second moment")
    eps: PositiveFloat = Field(1e-8, description="AdamW's epsilon")
    weight_decay: NonNegativeFloat = Field(0.0, description="decoupled weight decay on matrices")
    grad_clip: PositiveFloat | None = Field(1.0, description="largest global gradient norm; none: no clip")

    def rate(self, step: int, total: int) -> float:
        """Learning rate of a step (from 0) in a run of `total` steps."""
        warm = math.ceil(self.warmup * total)
        if step < warm:
            return self.lr * (step + 1) / (warm + 1)
        if self.schedule == "constant":
            return self.lr
        progress = min(1.0, (step - warm) / max(1, total - warm))
        if self.schedule == "linear":
            return self.lr * (1 - (1 - self.final) * progress)
        return self.lr * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress)))

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
        """AdamW over the parameters; weight decay touches matrices only, never norms and biases."""
        trainable = [p for p in parameters if p.requires_grad]
        matrices = [p for p in trainable if p.ndim >= 2]
        vectors = [p for p in trainable if p.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": self.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [g for g in groups if g["params"]],
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            fused=True,
        )
