"""What a policy learns from: rollouts with log-probs, advantages and what a critic said, and the losses over them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedTokenizerBase

from heedlm.models.adapters import Adapted
from heedlm.models.forward import (
    sequence_logps,
    sequence_logps_and_entropy,
    sequence_scores,
    sequence_statistics,
)
from heedlm.models.packed import Packed, pack_sequences
from heedlm.objectives import CriticObjective, RolloutObjective
from heedlm.ops.types import Loss, Rollouts
from heedlm.rollout import Engine, Sampling
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
        values: Critic's value of the state that predicts the token, when the rollout was made; None without a critic.
        advantages: What the token did for the reward, compared with what was to be expected.
        returns: Advantages plus values; None without a critic.
        reference: Log-probability (nats) under the reference, where the loss asks for it.
    """

    tokens: Tensor
    lengths: Tensor
    mask: Tensor
    logps: Tensor
    values: Tensor | None
    advantages: Tensor
    returns: Tensor | None
    reference: Tensor | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def select(self, rows: Sequence[int]) -> Experience:
        """Some rows, with the padding that all of them share cut off."""
        index = torch.tensor(list(rows), dtype=torch.long, device=self.tokens.device)
        width = int(self.lengths[index].max()) if len(index) else 0
        parts = {name: x[index] for name, x in self._tensors().items()}
        return replace(self, **{name: x if x.ndim == 1 else x[:, :width] for name, x in parts.items()})

    @staticmethod
    def cat(parts: Sequence[Experience]) -> Experience:
        """All rows of all parts in order, padded with zeros to the widest part."""
        width = max(part.tokens.shape[1] for part in parts)

        def joined(name: str) -> Tensor:
            found = [part._tensors()[name] for part in parts]
            return torch.cat([x if x.ndim == 1 else pad(x, (0, width - x.shape[1])) for x in found])

        return replace(parts[0], **{name: joined(name) for name in parts[0]._tensors()})

    def _tensors(self) -> dict[str, Tensor]:
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in named.items() if value is not None}

    def with_advantages(self, advantages: Tensor) -> Experience:
        """The same with other advantages (B, T)."""
        return replace(self, advantages=advantages)

    def minibatches(self, size: int, generator: torch.Generator, together: int = 1) -> Iterator[list[int]]:
        """Row numbers of shuffled minibatches; a last one smaller than `size` is kept.

        Args:
            size: Rows of each, a multiple of `together`.
            generator: Decides the order.
            together: So many rows that follow each other stay in one minibatch, in order.
        """
        order = torch.randperm(len(self) // together, generator=generator).tolist()
        step = size // together
        for start in range(0, len(order), step):
            yield [unit * together + i for unit in order[start : start + step] for i in range(together)]


def pack_responses(tokens: Tensor, lengths: Tensor, mask: Tensor) -> tuple[Packed, Tensor]:
    """Prompts and responses end to end, equal prompts once, and the index (M,) of each response token.

    Args:
        tokens: (B, T) right-padded rows.
        lengths: (B,) real tokens of each.
        mask: (B, T) True on response tokens, which stand together at the end of a row; (M,) follows its order.
    """
    ends = lengths.tolist()
    # A row without a response still needs a token of its own.
    starts = [min(start, end - 1) for start, end in zip(mask.long().argmax(1).tolist(), ends, strict=True)]
    rows = tokens.tolist()
    packed = pack_sequences(
        [row[start:end] for row, start, end in zip(rows, starts, ends, strict=True)],
        [row[:start] for row, start in zip(rows, starts, strict=True)],
        tokens.device,
    )
    shift = torch.tensor([first - start for (first, _), start in zip(packed.sequences, starts, strict=True)])
    row, column = mask.nonzero(as_tuple=True)
    return packed, shift.to(tokens.device)[row] + column


def row_groups(tokens: Tensor, lengths: Tensor, mask: Tensor, budget: int) -> list[list[int]]:
    """Microbatches of row numbers: at most `budget` tokens each, rows with one prompt together."""
    starts, ends, rows = mask.long().argmax(1).tolist(), lengths.tolist(), tokens.tolist()
    alike: dict[tuple[int, ...], list[int]] = {}
    for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
        alike.setdefault(tuple(row[:start]), []).append(i)
    units = list(alike.items())
    work = [len(prompt) + sum(ends[i] - len(prompt) for i in places) for prompt, places in units]
    return [[i for unit in chosen for i in units[unit][1]] for chosen in microbatches(work, budget)]


def _spread(mask: Tensor, found: Tensor) -> Tensor:
    """(B, T) with one number for each True cell of the mask, 0 elsewhere."""
    return found.new_zeros(mask.shape).masked_scatter(mask, found)


def _parts(rollouts: Rollouts, budget: int) -> Iterator[tuple[Tensor, Tensor, Packed, Tensor]]:
    """Rows, response mask, packed sequences and targets of each microbatch, without padding that all share."""
    everything = rollouts.response_mask
    for rows in row_groups(rollouts.tokens, rollouts.lengths, everything, budget):
        index = torch.as_tensor(rows, device=rollouts.tokens.device)
        mask = everything[index]
        packed, targets = pack_responses(rollouts.tokens[index], rollouts.lengths[index], mask)
        yield index, mask, packed, targets


@torch.no_grad()
def rollout_logps(model: nn.Module, rollouts: Rollouts, *, temperature: float, budget: int) -> Tensor:
    """Log-probs (nats) of the response tokens (B, T), zero elsewhere; dropout is off.

    Args:
        model: A causal model.
        rollouts: Rows to look at.
        temperature: The one they were sampled at, so that the log-probs are those of the sampled distribution.
        budget: Tokens a forward pass may hold.
    """
    with _calm(model):
        logps = torch.zeros_like(rollouts.logps)
        for index, mask, packed, targets in _parts(rollouts, budget):
            logps[index] = _spread(mask, sequence_logps(model, packed, targets, temperature)).to(logps.dtype)
    return logps


@torch.no_grad()
def rollout_statistics(
    model: nn.Module, rollouts: Rollouts, *, temperature: float, budget: int
) -> tuple[Tensor, Tensor]:
    """`rollout_logps`, and the entropies (nats) of the distributions that the tokens were drawn from."""
    with _calm(model):
        logps, entropies = torch.zeros_like(rollouts.logps), torch.zeros_like(rollouts.logps)
        for index, mask, packed, targets in _parts(rollouts, budget):
            found, entropy = sequence_statistics(model, packed, targets, temperature)
            logps[index], entropies[index] = (_spread(mask, x).to(logps.dtype) for x in (found, entropy))
    return logps, entropies


@torch.no_grad()
def rollout_values(critic: nn.Module, rollouts: Rollouts, *, budget: int) -> Tensor:
    """(B, T) critic's value of the state that predicts each response token, zero elsewhere; dropout is off."""
    with _calm(critic):
        values = torch.zeros_like(rollouts.logps)
        for index, mask, packed, targets in _parts(rollouts, budget):
            values[index] = _spread(mask, _values(critic, packed, targets)).to(values.dtype)
    return values


@torch.no_grad()
def rollout_scores(model: nn.Module, rollouts: Rollouts, *, budget: int) -> Tensor:
    """(B,) score of a scalar model at the last token of each row, in reward units; dropout is off."""
    with _calm(model):
        scores = torch.zeros(len(rollouts), dtype=rollouts.logps.dtype, device=rollouts.tokens.device)
        for index, _, packed, _ in _parts(rollouts, budget):
            scores[index] = sequence_scores(model, packed, packed.last).to(scores.dtype)
    return scores


@contextlib.contextmanager
def _calm(model: nn.Module) -> Iterator[None]:
    """Without dropout."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _values(critic: nn.Module, packed: Packed, targets: Tensor) -> Tensor:
    """(M,) values of the states before each target is chosen."""
    return sequence_scores(critic, packed, packed.before[targets])


class AdaptedEngine:
    """Samples from a model with an adapter, as it is at each call.

    The engine `native` is given merged weights, as it knows no others; they exist for the time of the call. Any
    other engine computes with the adapter in place and needs no more memory.

    Args:
        engine: Settings of the engine.
        model: What to sample from.
        tokenizer: The model's.
    """

    def __init__(self, engine: Engine, model: Adapted, tokenizer: PreTrainedTokenizerBase) -> None:
        self.engine, self.model, self.tokenizer = engine, model, tokenizer

    def sync(self, weights: Mapping[str, Tensor]) -> None:
        """Copy weights into the adapter; names and shapes must be its own."""
        self.model.load_state_dict(dict(weights))

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int) -> Rollouts:
        """One answer for each prompt (token ids), in order."""
        with self.model.merged() if self.engine.name == "native" else self.model.on() as model:
            return self.engine.bind(model, self.tokenizer).generate(prompts, sampling, seed)


def policy_terms(
    policy: nn.Module,
    batch: Experience,
    objective: RolloutObjective,
    *,
    temperature: float,
    budget: int,
    label: str,
    beta: float = 0.0,
    room: int = 1,
) -> list[Term]:
    """Losses of the policy on one minibatch, a term per microbatch.

    Args:
        policy: A causal model.
        batch: What it learns from.
        objective: The loss.
        temperature: At which the rollouts were sampled.
        budget: Tokens a microbatch may hold.
        label: What an error message calls the minibatch.
        beta: Loss of a nat of KL, for objectives with KL in the loss.
        room: Most tokens an answer may have.
    """

    def term(rows: list[int]) -> Term:
        part = batch.select(rows)
        packed, targets = pack_responses(part.tokens, part.lengths, part.mask)

        def loss() -> Loss:
            spread = None
            if objective.entropy:
                found = sequence_logps_and_entropy(policy, packed, targets, temperature)
                logps, spread = (_spread(part.mask, values) for values in found)
            else:
                logps = _spread(part.mask, sequence_logps(policy, packed, targets, temperature))
            known = (part.logps, part.advantages, part.mask)
            return objective.policy(logps, *known, spread, part.reference, beta, room)

        return Term(loss, int(objective.count(part.mask)), group="policy", label=label)

    return [term(rows) for rows in row_groups(batch.tokens, batch.lengths, batch.mask, budget)]


def value_terms(
    critic: nn.Module, batch: Experience, objective: CriticObjective, *, weight: float, budget: int, label: str
) -> list[Term]:
    """Value losses of one minibatch, a term per microbatch.

    Raises:
        ValueError: There was no critic when the rollouts were made.
    """

    def term(rows: list[int]) -> Term:
        part = batch.select(rows)
        packed, targets = pack_responses(part.tokens, part.lengths, part.mask)
        old, returns = part.values, part.returns
        if old is None or returns is None:
            raise ValueError("the rollouts hold no values: they were made without a critic")

        def loss() -> Loss:
            values = _spread(part.mask, _values(critic, packed, targets))
            return objective.value(values, old, returns, part.mask)

        return Term(loss, len(targets), weight, group="value", label=label)

    return [term(rows) for rows in row_groups(batch.tokens, batch.lengths, batch.mask, budget)]
