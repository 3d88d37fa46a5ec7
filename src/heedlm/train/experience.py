"""What PPO learns from: rollouts with their log-probs, values, advantages and returns, and the losses over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from heedlm.models.forward import logits, token_scores
from heedlm.objectives.ppo import Ppo
from heedlm.ops.logprobs import entropy, token_logps
from heedlm.ops.types import Loss, Rollouts
from heedlm.train.batching import microbatches
from heedlm.train.learner import Term


@dataclass(frozen=True)
class Experience:
    """One buffer of scored rollouts, right-padded; all tensors (B, T) and zero outside the response.

    Attributes:
        tokens: Prompt, response, padding.
        lengths: (B,) real tokens of each row.
        mask: True on response tokens, EOS included.
        logps: Log-probability (nats) under the policy that sampled.
        values: Critic's value of the state that predicts the token, when the rollout was made.
        advantages: Generalised advantage estimates.
        returns: Advantages plus values.
    """

    tokens: Tensor
    lengths: Tensor
    mask: Tensor
    logps: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor

    def select(self, rows: Sequence[int]) -> Experience:
        """Some rows, with the padding that all of them share cut off."""
        index = torch.as_tensor(list(rows))
        width = int(self.lengths[index].max())
        parts = {f.name: getattr(self, f.name)[index] for f in fields(self)}
        return Experience(**{name: x if x.ndim == 1 else x[:, :width] for name, x in parts.items()})

    def minibatches(self, size: int, generator: torch.Generator) -> Iterator[list[int]]:
        """Row numbers of shuffled minibatches; a last one smaller than `size` is kept."""
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        for start in range(0, len(order), size):
            yield order[start : start + size]


def forward_rows(rollouts: Rollouts, budget: int) -> Iterator[tuple[Tensor, Rollouts]]:
    """Microbatches of rollouts of similar length, with the row numbers they came from."""
    for rows in microbatches(rollouts.lengths.tolist(), budget):
        index = torch.as_tensor(rows)
        part = rollouts.select(index)
        width = int(part.lengths.max())
        yield (
            index,
            Rollouts(
                tokens=part.tokens[:, :width],
                prompt_lengths=part.prompt_lengths,
                lengths=part.lengths,
                logps=part.logps[:, :width],
                ended=part.ended,
            ),
        )


@torch.no_grad()
def rollout_logps(model: nn.Module, rollouts: Rollouts, *, temperature: float, budget: int) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies (nats) of the response tokens, both (B, T), zero elsewhere; dropout is off.

    Args:
        model: A causal model.
        rollouts: Rows to look at.
        temperature: The one they were sampled at, so that the log-probs are those of the sampled distribution.
        budget: Padded tokens a forward pass may hold.
    """
    was_training = model.training
    model.eval()
    logps, spread = torch.zeros_like(rollouts.logps), torch.zeros_like(rollouts.logps)
    for index, part in forward_rows(rollouts, budget):
        scores = logits(model, part.tokens)
        width, mask = part.tokens.shape[1], part.response_mask
        logps[index, :width] = torch.where(mask, token_logps(scores, part.tokens, temperature), 0.0).to(logps.dtype)
        spread[index, :width] = torch.where(mask, entropy(scores, temperature), 0.0).to(logps.dtype)
    model.train(was_training)
    return logps, spread


@torch.no_grad()
def rollout_values(critic: nn.Module, rollouts: Rollouts, *, budget: int) -> Tensor:
    """(B, T) critic's value of the state that predicts each response token, zero elsewhere; dropout is off."""
    was_training = critic.training
    critic.eval()
    values = torch.zeros_like(rollouts.logps)
    for index, part in forward_rows(rollouts, budget):
        found = predicting_values(critic, part.tokens)
        values[index, : part.tokens.shape[1]] = torch.where(part.response_mask, found, 0.0).to(values.dtype)
    critic.train(was_training)
    return values


def predicting_values(critic: nn.Module, tokens: Tensor) -> Tensor:
    """(B, T) values moved one place right: entry t is the value of the state before token t is chosen."""
    scores = token_scores(critic, tokens)
    return torch.cat([torch.zeros_like(scores[:, :1]), scores[:, :-1]], dim=1)


def policy_terms(
    policy: nn.Module, batch: Experience, objective: Ppo, *, temperature: float, budget: int, label: str
) -> list[Term]:
    """Surrogate losses of one minibatch, a term per microbatch."""

    def term(rows: list[int]) -> Term:
        part = batch.select(rows)

        def loss() -> Loss:
            logps = token_logps(logits(policy, part.tokens), part.tokens, temperature)
            return objective.policy(logps, part.logps, part.advantages, part.mask)

        return Term(loss, int(part.mask.sum()), group="policy", label=label)

    return [term(rows) for rows in microbatches(batch.lengths.tolist(), budget)]


def value_terms(
    critic: nn.Module, batch: Experience, objective: Ppo, *, weight: float, budget: int, label: str
) -> list[Term]:
    """Value losses of one minibatch, a term per microbatch."""

    def term(rows: list[int]) -> Term:
        part = batch.select(rows)

        def loss() -> Loss:
            return objective.value(predicting_values(critic, part.tokens), part.values, part.returns, part.mask)

        return Term(loss, int(part.mask.sum()), weight, group="value", label=label)

    return [term(rows) for rows in microbatches(batch.lengths.tolist(), budget)]
