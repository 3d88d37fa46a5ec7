"""How surprised a model is by a text: log-probability, loss per token and perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heedlm.errors import HeedError, NotFinite

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class TextLoss:
    """The negative log-likelihood of some text in nats, and the number of predicted tokens it covers."""

    total: float
    tokens: int

    @property
    def logp(self) -> float:
        """Log-probability of the text in nats."""
        return -self.total

    @property
    def per_token(self) -> float:
        """Mean loss in nats per token."""
        return self.total / self.tokens

    @property
    def perplexity(self) -> float:
        """exp of the mean loss per token."""
        return perplexity(self.per_token)

    def to_dict(self) -> dict[str, float | int]:
        """The same as plain JSON values."""
        return {
            "logp": self.logp,
            "tokens": self.tokens,
            "nll_per_token": self.per_token,
            "perplexity": self.perplexity,
        }


def perplexity(nll_per_token: float) -> float:
    """exp(mean loss in nats per token); infinity where that overflows. Source: docs/methods.md §2.1, N25."""
    return math.exp(nll_per_token) if nll_per_token < 700 else math.inf


def moss_perplexity(nlls_per_token: Sequence[float], lengths: Sequence[float]) -> float:
    """Perplexity as the MOSS-RLHF code logs it: exp(Σ mean loss ÷ Σ length), about exp(loss / length).

    Not a perplexity; kept only to read its published curves, where growing answers push it towards 1
    (docs/methods.md §4.3 item 3, N25).
    """
    if len(nlls_per_token) != len(lengths) or not sum(lengths):
        raise HeedError(f"MOSS perplexity: {len(nlls_per_token)} losses for {len(lengths)} lengths, or no tokens")
    return math.exp(sum(nlls_per_token) / sum(lengths))


def corpus_loss(token_nlls: Sequence[Sequence[float]]) -> TextLoss:
    """All texts as one: every token weighs the same, so long texts count for more.

    Raises:
        HeedError: There is no token.
        NotFinite: A loss is NaN or infinite.
    """
    values = [value for row in token_nlls for value in row]
    if not values:
        raise HeedError("perplexity: there is no token to measure")
    total = math.fsum(values)
    if not math.isfinite(total):
        raise NotFinite("perplexity: a token's loss is NaN or infinite")
    return TextLoss(total, len(values))


def token_nlls(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    *,
    from_token: Sequence[int] | int = 1,
    batch: int = 16,
) -> list[list[float]]:
    """Loss in nats of each token of each sequence under a causal model, in the order given.

    Args:
        model: Any causal language model; it is put into eval mode for the call and restored.
        sequences: Token ids. Include BOS and EOS, or sentences of different shapes are not comparable.
        from_token: First token that counts (one number, or one a sequence): 1 leaves out BOS, which nothing
            predicts; the prompt's length leaves out the prompt.
        batch: Sequences scored together; the numbers do not depend on it.

    Source: chain rule, docs/methods.md §2.1.
    """
    import torch

    from heedlm.models.forward import sequence_logps
    from heedlm.models.packed import pack_sequences

    starts = [from_token] * len(sequences) if isinstance(from_token, int) else list(from_token)
    if len(starts) != len(sequences):
        raise HeedError(f"perplexity: {len(sequences)} sequences but {len(starts)} first tokens")
    device = next(model.parameters()).device
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    result: list[list[float]] = [[] for _ in sequences]
    training = model.training
    model.train(False)
    try:
        for begin in range(0, len(order), batch):
            picked = [index for index in order[begin : begin + batch] if len(sequences[index]) > 1]
            if not picked:
                continue
            packed = pack_sequences([sequences[index] for index in picked], device=device)
            targets = packed.own[packed.positions[packed.own] > 0]
            with torch.inference_mode():
                logps = sequence_logps(model, packed, targets)
            parts = torch.split((-logps).cpu(), [len(sequences[index]) - 1 for index in picked])
            for index, part in zip(picked, parts, strict=True):
                result[index] = part[max(1, starts[index]) - 1 :].tolist()
    finally:
        model.train(training)
    return result
