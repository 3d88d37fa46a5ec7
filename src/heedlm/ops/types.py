"""What rollouts, log-probabilities of pairs, and losses look like to everything above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from heedlm.ops.shapes import Bool, Float, Int


@dataclass(frozen=True)
class Rollouts:
    """Sampled answers with their prompts, right-padded: one row is prompt, response, padding.

    Padding is known by the lengths alone, never by a token id; its tokens may hold anything.

    Attributes:
        tokens: Token ids (B, T).
        prompt_lengths: Tokens of each prompt (B,).
        lengths: Tokens of each prompt and response together, EOS included (B,).
        logps: Log-probability in nats, under the distribution it was sampled from, of each response token;
            0 elsewhere (B, T).
        ended: True where the model sampled EOS, False where the length limit cut the answer (B,).

    Raises:
        ValueError: The tensors disagree about B or T.
    """

    tokens: Int[Tensor, "B T"]
    prompt_lengths: Int[Tensor, "B"]
    lengths: Int[Tensor, "B"]
    logps: Float[Tensor, "B T"]
    ended: Bool[Tensor, "B"]

    def __post_init__(self) -> None:
        rows = self.tokens.shape[:1]
        if self.logps.shape != self.tokens.shape or not (
            self.prompt_lengths.shape == self.lengths.shape == self.ended.shape == rows
        ):
            raise ValueError(
                f"rollouts disagree: tokens {tuple(self.tokens.shape)}, logps {tuple(self.logps.shape)}, "
                f"prompt_lengths {tuple(self.prompt_lengths.shape)}, lengths {tuple(self.lengths.shape)}, "
                f"ended {tuple(self.ended.shape)}"
            )

    def __len__(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def mask(self) -> Bool[Tensor, "B T"]:
        """True on real tokens, False on padding (B, T)."""
        return self._positions < self.lengths[:, None]

    @property
    def response_mask(self) -> Bool[Tensor, "B T"]:
        """True on response tokens, EOS included (B, T)."""
        return (self._positions >= self.prompt_lengths[:, None]) & self.mask

    @property
    def response_lengths(self) -> Int[Tensor, "B"]:
        """Tokens of each response, EOS included (B,)."""
        return self.lengths - self.prompt_lengths

    @property
    def _positions(self) -> Int[Tensor, "1 T"]:
        return torch.arange(self.tokens.shape[1], device=self.tokens.device)[None, :]

    def select(self, index: Tensor | Sequence[int]) -> Rollouts:
        """The rows `index` names (row numbers or a boolean mask), at unchanged width T."""
        rows = torch.as_tensor(index, device=self.tokens.device)
        if rows.dtype != torch.bool:
            rows = rows.long()
        return Rollouts(
            tokens=self.tokens[rows],
            prompt_lengths=self.prompt_lengths[rows],
            lengths=self.lengths[rows],
            logps=self.logps[rows],
            ended=self.ended[rows],
        )

    def responses(self) -> list[list[int]]:
        """The response token ids of each row, EOS included where it was sampled, padding removed."""
        tokens = self.tokens.tolist()
        starts, ends = self.prompt_lengths.tolist(), self.lengths.tolist()
        return [row[start:end] for row, start, end in zip(tokens, starts, ends, strict=True)]

    def to(self, device: torch.device | str) -> Rollouts:
        """The same rollouts on another device."""
        return Rollouts(
            tokens=self.tokens.to(device),
            prompt_lengths=self.prompt_lengths.to(device),
            lengths=self.lengths.to(device),
            logps=self.logps.to(device),
            ended=self.ended.to(device),
        )

    @staticmethod
    def cat(parts: Sequence[Rollouts]) -> Rollouts:
        """All rows of all parts in order, padded with zeros to the widest part.

        Raises:
            ValueError: There are no parts.
        """
        if not parts:
            raise ValueError("Rollouts.cat needs at least one part")
        width = max(part.tokens.shape[1] for part in parts)

        def widened(x: Tensor) -> Tensor:
            return torch.nn.functional.pad(x, (0, width - x.shape[1]))

        return Rollouts(
            tokens=torch.cat([widened(part.tokens) for part in parts]),
            prompt_lengths=torch.cat([part.prompt_lengths for part in parts]),
            lengths=torch.cat([part.lengths for part in parts]),
            logps=torch.cat([widened(part.logps) for part in parts]),
            ended=torch.cat([part.ended for part in parts]),
        )


@dataclass(frozen=True)
class PairLogps:
    """Summed response log-probabilities (nats) of preferred and rejected answers, with lengths in tokens."""

    chosen: Float[Tensor, "B"]
    rejected: Float[Tensor, "B"]
    chosen_lengths: Int[Tensor, "B"]
    rejected_lengths: Int[Tensor, "B"]


@dataclass(frozen=True)
class Loss:
    """An objective's result, not reduced yet, so that accumulation and data parallelism equal one big batch.

    The loop minimises `values.sum()` divided by the sum of `count` over all accumulation steps and ranks.

    Attributes:
        values: One differentiable number for each example (N,), already summed over the example's tokens.
        count: Valid tokens or examples in this batch (scalar, no gradient).
        metrics: Named means over this batch (scalars, no gradient); weight them by `count` when combining.
    """

    values: Float[Tensor, "N"]
    count: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)

    def mean(self) -> Float[Tensor, ""]:
        """The loss of this batch taken alone; 0 (with zero gradient) where nothing in it counts."""
        return self.values.sum() / torch.where(self.count > 0, self.count, 1)
