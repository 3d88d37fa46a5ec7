"""Next-token training on packed rows: what pretraining, fine-tuning and the pretraining mix share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from heedlm.models.forward import sequence_logps, tensor_device
from heedlm.objectives.sft import Sft
from heedlm.ops.types import Loss
from heedlm.train.batching import Order, Row, lay_out, microbatches, pack
from heedlm.train.learner import Learner, Term
from heedlm.train.loop import Best

Group = list[Row]


def language_terms(
    model: nn.Module,
    groups: Sequence[Group],
    *,
    budget: int,
    weight: float = 1.0,
    group: str = "train",
    label: str = "",
) -> list[Term]:
    """Next-token losses over groups of rows, one term per microbatch of at most `budget` tokens."""
    objective, device = Sft(), tensor_device(model)

    def term(chosen: list[int]) -> Term:
        batch, targets = lay_out([row for i in chosen for row in groups[i]], device)

        def loss() -> Loss:
            logps = sequence_logps(model, batch, targets)[None]
            return objective(logps, torch.ones_like(logps, dtype=torch.bool))

        return Term(loss, len(targets), weight, group, label)

    return [term(chosen) for chosen in microbatches([sum(map(len, g)) for g in groups], budget)]


@torch.no_grad()
def mean_nll(model: nn.Module, groups: Sequence[Group], *, budget: int = 4096) -> float:
    """Mean negative log-likelihood (nats a counted token) over packed rows."""
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    for chosen in microbatches([sum(map(len, g)) for g in groups], budget):
        batch, targets = lay_out([row for i in chosen for row in groups[i]], tensor_device(model))
        total -= float(sequence_logps(model, batch, targets).double().sum())
        count += len(targets)
    model.train(was_training)
    return total / max(count, 1)


class LanguageTraining:
    """Next-token training that keeps the weights with the lowest held-out loss.

    Args:
        learner: Model and optimiser.
        rows: Training rows.
        held_out: Rows of the held-out loss; without any the last weights are kept.
        length: Tokens a packed row may hold.
        batch: Packed rows a step.
        budget: Tokens a microbatch may hold.
        seed: Seed of packing and order.
        also: More terms for a step, such as a pretraining mix.
    """

    def __init__(
        self,
        learner: Learner,
        rows: Sequence[Row],
        held_out: Sequence[Row],
        *,
        length: int,
        batch: int,
        budget: int,
        seed: int,
        also: Callable[[int], list[Term]] | None = None,
    ) -> None:
        self.learner = learner
        self.groups = packed(rows, length, seed)
        self.held_out = pack(held_out, length)
        self.order = Order(len(self.groups), batch, seed)
        self.budget = budget
        self.best = Best(learner.model)
        self.also = also

    def step(self, index: int) -> Mapping[str, float]:
        """One optimiser step on the next packed rows."""
        groups = [self.groups[i] for i in self.order.at(index)]
        terms = language_terms(self.learner.model, groups, budget=self.budget, label=f"rows of step {index + 1}")
        self.learner.model.train()
        values = self.learner.update(terms + (self.also(index) if self.also else []))
        return {**values, "tokens": sum(len(row) for group in groups for row in group)}

    def evaluate(self, index: int) -> Mapping[str, float]:
        """Held-out loss (nats a token)."""
        if not self.held_out:
            return {}
        loss = mean_nll(self.learner.model, self.held_out, budget=self.budget)
        self.best.offer(loss, index)
        return {"loss/held_out": loss}

    def state_dict(self) -> dict[str, Any]:
        """Learner and best weights; the order needs none."""
        return {"learner": self.learner.state_dict(), "best": self.best.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.learner.load_state_dict(state["learner"])
        self.best.load_state_dict(state["best"])


def packed(rows: Sequence[Row], length: int, seed: int) -> list[Group]:
    """Shuffle rows once, then pack them."""
    shuffle = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    return pack([rows[i] for i in shuffle], length)


def chunk(ids: Sequence[int], length: int) -> list[Row]:
    """Cut a long text into rows of at most `length` tokens, every token but the first of each row counted."""
    return [
        Row(list(ids[start : start + length]), [True] * len(ids[start : start + length]))
        for start in range(0, len(ids), length)
        if len(ids) - start > 1
    ]
