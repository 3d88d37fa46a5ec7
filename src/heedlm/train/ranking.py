"""Training a reward model on rankings: all answers of a prompt in one batch element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from heedlm.errors import BadInput
from heedlm.models.chat import Chat
from heedlm.models.forward import sequence_scores, tensor_device
from heedlm.models.packed import Packed, pack_sequences
from heedlm.objectives.bradley_terry import BradleyTerry, RankedBatch, Strength, ranked_batch
from heedlm.ops.types import Loss, Rollouts
from heedlm.records import Comparison, Message, Rows
from heedlm.train.batching import Order, Row, microbatches
from heedlm.train.language import language_terms
from heedlm.train.learner import Learner, Term
from heedlm.train.loop import Best


@dataclass(frozen=True)
class Ranking:
    """The answers to one prompt as token rows (prompt included), and their ranks: 1 is best, equal is a tie.

    `strength` says how far apart they are, where the annotator said so; the objective may ask for a margin by it.
    `margin` (reward units) is asked for as it is. `certainty` is the probability that a pair is ranked the right way
    round.
    """

    rows: list[Row]
    ranks: list[int]
    strength: Strength | None = None
    margin: float | None = None
    certainty: float | None = None

    @property
    def tokens(self) -> int:
        """Tokens of all rows, the prompt counted in each."""
        return sum(map(len, self.rows))

    @property
    def shared(self) -> int:
        """Tokens that all rows begin with; less than any of them."""
        ids = [row.ids for row in self.rows]
        most = min(map(len, ids)) - 1
        return next((i for i in range(most) if len({row[i] for row in ids}) > 1), most)

    @property
    def work(self) -> int:
        """Tokens computed: what the rows share counts once."""
        return self.tokens - (len(self.rows) - 1) * self.shared


def rankings_of(chat: Chat, comparisons: Rows[Comparison], limit: int) -> tuple[Rows[Comparison], list[Ranking]]:
    """Token rows of each comparison; one that is too long even with its oldest turns dropped is put aside."""
    made: list[Ranking] = []

    def too_long(comparison: Comparison) -> str | None:
        try:
            rows = answer_rows(chat, comparison.prompt, [answer.text for answer in comparison.answers], limit)
        except BadInput as error:
            return str(error)
        known = (comparison.strength, comparison.margin, comparison.certainty)
        made.append(Ranking(rows, list(comparison.ranks), *known))
        return None

    return comparisons.filter(too_long), made


def answer_rows(chat: Chat, prompt: Sequence[Message], answers: Sequence[str], limit: int) -> list[Row]:
    """Token rows of answers to one prompt, of which the oldest turns go first where a row is too long.

    Raises:
        BadInput: An answer has more than `limit` tokens even so.
    """
    responses = [chat.response_ids(text) for text in answers]
    longest = max(map(len, responses))
    if longest >= limit:
        raise BadInput(f"an answer alone has {longest} tokens, a row holds {limit}: raise length= or shorten it")
    asked = chat.prompt_ids(chat.truncate(prompt, limit - longest))
    if len(asked) + longest > limit:
        raise BadInput(f"{len(asked) + longest} tokens, more than length={limit}: raise it or shorten the row")
    return [Row(asked + ids, [False] * len(asked) + [True] * len(ids)) for ids in responses]


@torch.no_grad()
def ranking_scores(model: nn.Module, rankings: Sequence[Ranking], *, budget: int = 4096) -> list[list[float]]:
    """Scores of every answer of every prompt, in reward units; dropout is off."""
    was_training = model.training
    model.eval()
    found: list[list[float]] = [[] for _ in rankings]
    for chosen in microbatches([ranking.work for ranking in rankings], budget):
        batch = pack_rankings([rankings[i] for i in chosen], tensor_device(model))
        scores = iter(sequence_scores(model, batch, batch.last).tolist())
        for place in chosen:
            found[place] = [next(scores) for _ in rankings[place].rows]
    model.train(was_training)
    return found


def as_rollouts(rows: Sequence[Row]) -> Rollouts:
    """Given answers (each a row with its prompt) as if they had been sampled, for a reward source to score."""
    lengths = torch.tensor([len(row) for row in rows])
    width = int(lengths.max())
    tokens = torch.tensor([row.ids + [0] * (width - len(row)) for row in rows])
    return Rollouts(
        tokens=tokens,
        prompt_lengths=torch.tensor([row.mask.index(True) for row in rows]),
        lengths=lengths,
        logps=torch.zeros(tokens.shape),
        ended=torch.ones(len(rows), dtype=torch.bool),
    )


def pack_rankings(rankings: Sequence[Ranking], device: torch.device | str = "cpu") -> Packed:
    """All rows of all rankings end to end; what the answers of a prompt share is laid down once."""
    rows = [row.ids for ranking in rankings for row in ranking.rows]
    cuts = [ranking.shared for ranking in rankings for _ in ranking.rows]
    return pack_sequences(
        [ids[cut:] for ids, cut in zip(rows, cuts, strict=True)],
        [ids[:cut] for ids, cut in zip(rows, cuts, strict=True)],
        device,
    )


def pairwise_accuracy(scores: Sequence[Sequence[float]], rankings: Sequence[Ranking]) -> list[tuple[float, int]]:
    """For each prompt the number of strictly ranked pairs in the right order (equal scores count ½) and of pairs."""
    results = []
    for values, ranking in zip(scores, rankings, strict=True):
        right, pairs = 0.0, 0
        for i, better in enumerate(ranking.ranks):
            for j, worse in enumerate(ranking.ranks):
                if better < worse:
                    pairs += 1
                    right += 1.0 if values[i] > values[j] else 0.5 if values[i] == values[j] else 0.0
        results.append((right, pairs))
    return results


class RankingTraining:
    """Reward-model training that keeps the weights with the lowest held-out loss.

    Args:
        learner: A scalar model and its optimiser.
        rankings: Training rows.
        held_out: Rows of the held-out loss and accuracy; without any the last weights are kept.
        objective: Loss over the scores.
        batch: Prompts a step.
        budget: Tokens a microbatch may hold.
        seed: Seed of the order.
        imitation: Weight of the next-token loss on the best answer (0: none).
        language_model: Head for that loss, sharing the learner's trunk; needed if imitation > 0.
    """

    def __init__(
        self,
        learner: Learner,
        rankings: Sequence[Ranking],
        held_out: Sequence[Ranking],
        objective: BradleyTerry,
        *,
        batch: int,
        budget: int,
        seed: int,
        imitation: float = 0.0,
        language_model: nn.Module | None = None,
    ) -> None:
        self.learner = learner
        self.rankings = rankings
        self.held_out = held_out
        self.objective = objective
        self.order = Order(len(rankings), batch, seed)
        self.budget = budget
        self.imitation = imitation
        self.language_model = language_model
        self.best = Best(learner.model)

    def step(self, index: int) -> Mapping[str, float]:
        """One optimiser step on the next prompts."""
        chosen = [self.rankings[i] for i in self.order.at(index)]
        label = f"prompts of step {index + 1}"
        self.learner.model.train()
        values = self.learner.update(self._terms(chosen, label) + self._imitation_terms(chosen, label))
        return {**values, "tokens": sum(ranking.tokens for ranking in chosen)}

    def evaluate(self, index: int) -> Mapping[str, float]:
        """Held-out loss (nats a prompt) and pairwise accuracy."""
        if not self.held_out:
            return {}
        scores = ranking_scores(self.learner.model, self.held_out, budget=self.budget)
        flat = torch.tensor([value for row in scores for value in row], dtype=torch.float64)
        loss = self.objective(flat, self._ranked(self.held_out))
        value = float(loss.values.sum() / loss.count)
        self.best.offer(value, index)
        right, pairs = map(sum, zip(*pairwise_accuracy(scores, self.held_out), strict=True))
        return {"loss/held_out": value, "accuracy/held_out": right / max(pairs, 1)}

    def _terms(self, chosen: Sequence[Ranking], label: str) -> list[Term]:
        """Whole prompts stay together in a microbatch: every pair of a prompt meets in one pass."""
        model = self.learner.model

        def term(places: list[int]) -> Term:
            part = [chosen[i] for i in places]
            batch = pack_rankings(part, tensor_device(model))
            ranked = self._ranked(part, tensor_device(model))

            def loss() -> Loss:
                return self.objective(sequence_scores(model, batch, batch.last), ranked)

            return Term(loss, len(part), label=label)

        return [term(places) for places in microbatches([ranking.work for ranking in chosen], self.budget)]

    def _ranked(self, rankings: Sequence[Ranking], device: torch.device | str = "cpu") -> RankedBatch:
        margins = [self.objective.margin_for(each.strength) + (each.margin or 0.0) for each in rankings]
        targets = [1.0 if each.certainty is None else each.certainty for each in rankings]
        return ranked_batch(
            [each.ranks for each in rankings],
            device,
            margins if any(margins) else None,
            targets if any(target != 1.0 for target in targets) else None,
        )

    def _imitation_terms(self, chosen: Sequence[Ranking], label: str) -> list[Term]:
        if self.imitation == 0 or self.language_model is None:
            return []
        best = [[ranking.rows[ranking.ranks.index(min(ranking.ranks))]] for ranking in chosen]
        return language_terms(
            self.language_model,
            best,
            budget=self.budget,
            weight=self.imitation,
            group="imitation",
            label=label,
        )

    def state_dict(self) -> dict[str, Any]:
        """Learner and best weights; the order needs none."""
        return {"learner": self.learner.state_dict(), "best": self.best.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.learner.load_state_dict(state["learner"])
        self.best.load_state_dict(state["best"])
