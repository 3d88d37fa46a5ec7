"""What every engine agrees on about rows: how long answers may be, and which random numbers are whose."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from heedlm.errors import BadInput
from heedlm.models.forward import context_limit


def rooms(model: nn.Module, prompts: Sequence[Sequence[int]], most: int) -> list[int]:
    """How many tokens each answer may have: `most`, or what the model's context leaves.

    Raises:
        BadInput: A prompt is empty or fills the context.
    """
    limit = context_limit(model)
    for i, prompt in enumerate(prompts, start=1):
        if not prompt:
            raise BadInput(f"prompt {i} of {len(prompts)} has no tokens: give it at least one")
        if limit is not None and len(prompt) >= limit:
            raise BadInput(
                f"prompt {i} of {len(prompts)} has {len(prompt)} tokens and leaves no room for an answer"
                f" in the model's context of {limit}: shorten it"
            )
    return [most if limit is None else min(most, limit - len(prompt)) for prompt in prompts]


def uniforms(count: int, most: int, seed: int) -> Tensor:
    """Numbers in [0, 1) in float64 (count, most): row i decides the tokens of answer i, whoever draws them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((count, most), generator=generator, dtype=torch.float64)


def by_length(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Row numbers, shortest prompt first, equal prompts side by side."""
    return sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), tuple(prompts[i]), i))
