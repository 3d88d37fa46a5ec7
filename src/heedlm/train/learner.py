"""One optimiser step: losses in, weights moved, with the right denominator and no silent NaN."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from heedlm.errors import NotFinite
from heedlm.models.adapters import switched_on
from heedlm.ops.types import Loss
from heedlm.train.optim import Optim


@dataclass(frozen=True)
class Term:
    """One microbatch of one loss.

    Attributes:
        loss: Computes the loss; called once, just before its backward pass.
        count: Valid tokens or examples in this microbatch, known before the forward pass.
        weight: Factor of this loss in the total.
        group: Terms of one group share a denominator: the sum of their counts, over all microbatches.
        label: What an error message calls this microbatch.
    """

    loss: Callable[[], Loss]
    count: int
    weight: float = 1.0
    group: str = "train"
    label: str = "batch"


class Learner:
    """A model with its optimiser.

    The gradient is that of Σ_groups weight · Σ values / Σ counts: splitting a batch into microbatches changes
    nothing but rounding, because every microbatch is divided by the count of the whole.

    Args:
        model: Its parameters that require a gradient are trained; of a model with an adapter those are the adapter's.
        optim: Optimiser settings.
        total_steps: Length of the schedule in optimiser steps.
    """

    def __init__(self, model: nn.Module, optim: Optim, total_steps: int) -> None:
        self.model = model
        self.optim = optim
        self.total_steps = total_steps
        self.step = 0
        self.scale = 1.0
        self.optimizer = optim.build(model.parameters())

    def update(self, terms: Iterable[Term]) -> dict[str, float]:
        """Take one optimiser step and return the losses, metrics, gradient norm and rate.

        Raises:
            NotFinite: A loss or the gradient is NaN or infinite; the weights are left as they were.
        """
        terms = list(terms)
        totals: dict[str, int] = defaultdict(int)
        for term in terms:
            totals[term.group] += term.count
        sums: dict[str, float] = defaultdict(float)
        self.optimizer.zero_grad(set_to_none=True)
        with switched_on(self.model):  # for the backward pass too: recomputed activations need the adapter
            for term in terms:
                loss = term.loss()
                value = loss.values.sum() / max(totals[term.group], 1)
                if not bool(torch.isfinite(value)):
                    raise NotFinite(f"the loss became {value.item()} in step {self.step + 1}, {term.label}")
                (value * term.weight).backward()  # type: ignore[no-untyped-call]
                sums[f"loss/{term.group}"] += float(value.detach())
                for name, metric in loss.metrics.items():
                    sums[name] += float(metric) * term.count / max(totals[term.group], 1)
        norm = self._gradient_norm()
        if not math.isfinite(norm):
            labels = ", ".join(dict.fromkeys(term.label for term in terms))
            raise NotFinite(f"the gradient norm became {norm} in step {self.step + 1}, {labels}")
        rate = self.optim.rate(self.step, self.total_steps) * self.scale
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.step += 1
        return {**sums, "grad_norm": norm, "lr": rate}

    def _gradient_norm(self) -> float:
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.optim.grad_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.optim.grad_clip, norm)
        return float(norm)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed learner needs: weights (without a frozen base), optimiser moments, step."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "scale": self.scale,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
        self.scale = float(state["scale"])
