"""Log-probabilities and entropies of tokens: the only place that shifts logits against tokens by one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from heedlm.ops.masked import widen
from heedlm.ops.shapes import Float, Int


def token_logps(
    logits: Float[Tensor, "B T V"], tokens: Int[Tensor, "B T"], temperature: float = 1.0
) -> Float[Tensor, "B T"]:
    """Log-probability (nats) of every token given those before it: `out[:, t]` belongs to `tokens[:, t]`.

    The first token has none, so `out[:, 0]` is 0. Half-precision logits are summed in float32.

    Args:
        logits: The model's output (B, T, V); position t predicts token t + 1.
        tokens: Token ids (B, T).
        temperature: The one the tokens were sampled at; logits are divided by it.

    Raises:
        ValueError: The temperature is not positive.
    """
    scaled = _predicting(logits, temperature)
    picked = scaled.gather(-1, tokens[:, 1:, None]).squeeze(-1)
    return pad(picked - scaled.logsumexp(-1), (1, 0))


def entropy(logits: Float[Tensor, "B T V"], temperature: float = 1.0) -> Float[Tensor, "B T"]:
    """Entropy (nats) of the distribution each token was drawn from, aligned like `token_logps`.

    Excluded tokens (logit -inf) contribute nothing. Differentiable.

    Raises:
        ValueError: The temperature is not positive.
    """
    scaled = _predicting(logits, temperature)
    finite = scaled.clamp(min=torch.finfo(scaled.dtype).min)  # 0 · -inf would be NaN
    mean_logit = (scaled.softmax(-1) * finite).sum(-1)
    return pad(scaled.logsumexp(-1) - mean_logit, (1, 0))


def _predicting(logits: Tensor, temperature: float) -> Tensor:
    """The logits that predict tokens 1 … T-1, at the temperature, wide enough to sum."""
    if not temperature > 0:
        raise ValueError(f"temperature must be positive to give log-probabilities, not {temperature}")
    shifted = widen(logits[:, :-1])
    return shifted if temperature == 1.0 else shifted / temperature
