"""Answers in steps: where each ends among the tokens, their scores, and training a process reward model on them."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from heedlm.errors import BadInput
from heedlm.models.chat import Chat
from heedlm.models.forward import sequence_scores, tensor_device
from heedlm.models.packed import Packed, pack_sequences
from heedlm.objectives.process import Process
from heedlm.ops.types import Loss
from heedlm.records import Rows, Steps
from heedlm.train.batching import Order, Row, microbatches
from heedlm.train.learner import Learner, Term
from heedlm.train.loop import Best
from heedlm.train.ranking import answer_rows

# A step is a sentence or a line. Blanks belong to what follows them, as they do in most tokens.
_STEP = re.compile(r"\s*\S.*?(?:[.!?](?=\s|$)|[。！？]|(?=\n)|$)", re.MULTILINE)


def split_steps(text: str) -> list[str]:
    """A text as its sentences and lines, which joined are the text; one step where there is nothing in it."""
    found = _STEP.findall(text)
    rest = text[len("".join(found)) :]
    return [*found[:-1], found[-1] + rest] if found else [text]


def step_ends(chat: Chat, ids: Sequence[int], steps: Sequence[str]) -> list[int]:
    """The place in an answer's token ids of the last token of each step; of the last step, that of the answer.

    A token that ends one step and begins the next belongs to the first of them.
    """
    grown = [len(chat.decode(ids[: place + 1])) for place in range(len(ids))]
    lengths = list(accumulate(map(len, steps)))
    last = len(ids) - 1
    return [min(bisect_left(grown, length), last) for length in lengths[:-1]] + [last]


def say_reads_steps(model: nn.Module) -> None:
    """Note in a scalar model's config, with which it is saved, that its scores are log-odds of steps."""
    config: Any = model.config
    config.heed = {**(getattr(config, "heed", None) or {}), "reads": "steps"}


def reads_steps(model: nn.Module) -> bool:
    """Whether a scalar model is a process reward model."""
    return (getattr(model.config, "heed", None) or {}).get("reads") == "steps"


@dataclass(frozen=True)
class Stepped:
    """An answer (prompt included) as a token row, the places of its steps' last tokens, and what was said of them."""

    row: Row
    ends: list[int]
    labels: list[int]
    chances: list[float] | None = None


def stepped_of(chat: Chat, rows: Rows[Steps], limit: int) -> tuple[Rows[Steps], list[Stepped]]:
    """Token rows of answers in steps; one that is too long even with its oldest turns dropped is put aside."""
    made: list[Stepped] = []

    def too_long(steps: Steps) -> str | None:
        try:
            (row,) = answer_rows(chat, steps.prompt, ["".join(steps.steps)], limit)
        except BadInput as error:
            return str(error)
        first = row.mask.index(True)
        ends = [first + place for place in step_ends(chat, row.ids[first:], steps.steps)]
        chances = None if steps.chances is None else list(steps.chances)
        made.append(Stepped(row, ends, list(steps.labels), chances))
        return None

    return rows.filter(too_long), made


@torch.no_grad()
def step_scores(
    model: nn.Module, rows: Sequence[Sequence[int]], ends: Sequence[Sequence[int]], *, budget: int = 4096
) -> list[list[float]]:
    """Scores of a process reward model at the given places of each token row, in nats of odds; dropout is off."""
    was_training = model.training
    model.eval()
    found: list[list[float]] = [[] for _ in rows]
    for chosen in microbatches([len(row) for row in rows], budget):
        packed = pack_sequences([rows[i] for i in chosen], device=tensor_device(model))
        scores = iter(sequence_scores(model, packed, _places(packed, [ends[i] for i in chosen])).tolist())
        for i in chosen:
            found[i] = [next(scores) for _ in ends[i]]
    model.train(was_training)
    return found


def _places(packed: Packed, ends: Sequence[Sequence[int]]) -> Tensor:
    """Index (M,) in the one row of places in each sequence."""
    places = [first + end for (first, _), row in zip(packed.sequences, ends, strict=True) for end in row]
    return torch.tensor(places, dtype=torch.long, device=packed.tokens.device)


class StepTraining:
    """Process-reward training that keeps the weights with the lowest held-out loss.

    Args:
        learner: A scalar model and its optimiser.
        answers: Training rows.
        held_out: Rows of the held-out loss and accuracy; without any the last weights are kept.
        objective: Loss over the steps' scores.
        batch: Answers a step of training.
        budget: Tokens a microbatch may hold.
        seed: Seed of the order.
    """

    def __init__(
        self,
        learner: Learner,
        answers: Sequence[Stepped],
        held_out: Sequence[Stepped],
        objective: Process,
        *,
        batch: int,
        budget: int,
        seed: int,
    ) -> None:
        self.learner, self.answers, self.held_out, self.objective = learner, answers, held_out, objective
        self.order = Order(len(answers), batch, seed)
        self.budget = budget
        self.best = Best(learner.model)

    def step(self, index: int) -> Mapping[str, float]:
        """One optimiser step on the next answers."""
        chosen = [self.answers[i] for i in self.order.at(index)]
        self.learner.model.train()
        parts = microbatches([len(each.row) for each in chosen], self.budget)
        terms = [self._term([chosen[i] for i in places], index) for places in parts]
        return {**self.learner.update(terms), "tokens": sum(len(each.row) for each in chosen)}

    def evaluate(self, index: int) -> Mapping[str, float]:
        """Held-out loss (nats a step) and share of steps on the right side of ½."""
        if not self.held_out:
            return {}
        wanted = [self._targets(each) for each in self.held_out]
        ends = [each.ends[: len(row)] for each, row in zip(self.held_out, wanted, strict=True)]
        scores = step_scores(self.learner.model, [each.row.ids for each in self.held_out], ends, budget=self.budget)
        loss = self._loss(torch.tensor([score for row in scores for score in row], dtype=torch.float64), wanted)
        value = float(loss.mean())
        self.best.offer(value, index)
        return {"loss/held_out": value, "accuracy/held_out": float(loss.metrics["accuracy"])}

    def _term(self, part: list[Stepped], index: int) -> Term:
        model, wanted = self.learner.model, [self._targets(each) for each in part]
        packed = pack_sequences([each.row.ids for each in part], device=tensor_device(model))
        places = _places(packed, [each.ends[: len(row)] for each, row in zip(part, wanted, strict=True)])

        def loss() -> Loss:
            return self._loss(sequence_scores(model, packed, places), wanted)

        return Term(loss, len(places), label=f"answers of step {index + 1}")

    def _targets(self, answer: Stepped) -> list[float]:
        return self.objective.targets(answer.labels, answer.chances)

    def _loss(self, scores: Tensor, wanted: Sequence[Sequence[float]]) -> Loss:
        """The objective on scores (M,), one answer's after the other's, as padded rows (B, T)."""
        lengths = torch.tensor([len(row) for row in wanted], device=scores.device)
        mask = torch.arange(int(lengths.max()), device=scores.device) < lengths[:, None]

        def laid_out(flat: Tensor) -> Tensor:
            return torch.zeros(mask.shape, dtype=flat.dtype, device=flat.device).masked_scatter(mask, flat)

        flat = torch.tensor([value for row in wanted for value in row], dtype=scores.dtype, device=scores.device)
        return self.objective(laid_out(scores), laid_out(flat), mask)

    def state_dict(self) -> dict[str, Any]:
        """Learner and best weights; the order needs none."""
        return {"learner": self.learner.state_dict(), "best": self.best.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.learner.load_state_dict(state["learner"])
        self.best.load_state_dict(state["best"])
