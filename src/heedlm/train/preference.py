"""Training a policy straight from preferences: pairs or marked answers in, no reward model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from heedlm.models.forward import sequence_logps, tensor_device
from heedlm.models.packed import Packed
from heedlm.objectives import Kto, PreferenceObjective
from heedlm.ops.pairs import half_right, of_their_own
from heedlm.ops.types import Loss, PairLogps
from heedlm.train.batching import Order, microbatches
from heedlm.train.judged import Judged, mismatched
from heedlm.train.learner import Learner, Term
from heedlm.train.loop import Best
from heedlm.train.ranking import Ranking, pack_rankings


@dataclass(frozen=True)
class Answers:
    """Packed answers, what their prompts share laid down once, ready to be given log-probabilities.

    Attributes:
        packed: The rows of all rankings.
        targets: (M,) index of every answer token; a token that several answers begin with is there for each.
        owner: (M,) which of the R answers it belongs to.
        lengths: (R,) tokens of each answer.
    """

    packed: Packed
    targets: Tensor
    owner: Tensor
    lengths: Tensor

    @staticmethod
    def of(rankings: Sequence[Ranking], device: torch.device | str) -> Answers:
        """Lay out the rows of some rankings."""
        packed = pack_rankings(rankings, device)
        rows = [row for ranking in rankings for row in ranking.rows]
        targets: list[int] = []
        owner: list[int] = []
        for number, (row, before, own) in enumerate(zip(rows, packed.prefixes, packed.sequences, strict=True)):
            places = [*range(before[0], sum(before)), *range(own[0], sum(own))]
            counted = [place for place, flag in zip(places[1:], row.mask[1:], strict=True) if flag]
            targets += counted
            owner += [number] * len(counted)
        lengths = torch.bincount(torch.tensor(owner), minlength=len(rows))
        return Answers(
            packed, torch.tensor(targets, device=device), torch.tensor(owner, device=device), lengths.to(device)
        )

    def logps(self, model: nn.Module) -> Tensor:
        """(R,) log-probability (nats) of each answer, in float64, as differences of large sums follow."""
        each = sequence_logps(model, self.packed, self.targets).double()
        return each.new_zeros(len(self.lengths)).index_add(0, self.owner, each)


@torch.no_grad()
def answer_logps(model: nn.Module, rankings: Sequence[Ranking], *, budget: int) -> list[Tensor]:
    """Log-probabilities (nats) of every answer of every prompt; dropout is off."""
    was_training = model.training
    model.eval()
    found: list[Tensor] = [torch.empty(0)] * len(rankings)
    for chosen in microbatches([ranking.work for ranking in rankings], budget):
        parts = [rankings[i] for i in chosen]
        logps = Answers.of(parts, tensor_device(model)).logps(model)
        for place, each in zip(chosen, torch.split(logps, [len(part.rows) for part in parts]), strict=True):
            found[place] = each
    model.train(was_training)
    return found


def implicit_rewards(
    objective: PreferenceObjective, logps: Sequence[Tensor], ref: Sequence[Tensor], rankings: Sequence[Ranking]
) -> list[list[float]]:
    """What the policy's log-probabilities say every answer of every prompt is worth."""
    lengths = [[sum(row.mask) for row in ranking.rows] for ranking in rankings]
    return [
        objective.reward(mine, theirs, torch.tensor(tokens, device=mine.device)).tolist()
        for mine, theirs, tokens in zip(logps, ref, lengths, strict=True)
    ]


@dataclass(frozen=True)
class Examples:
    """Judged answers, and what the reference says of them if it was asked before training.

    Attributes:
        judged: One for each prompt.
        others: KTO's mismatched answers, one for each prompt; empty for other methods.
        ref: (K,) log-probabilities of each prompt's answers under the reference.
        ref_others: The same of the mismatched ones.
    """

    judged: Sequence[Judged]
    others: Sequence[Ranking]
    ref: list[Tensor] | None = None
    ref_others: list[Tensor] | None = None


@dataclass(frozen=True)
class Part:
    """One microbatch with what the reference says of it.

    Attributes:
        answers: R answers.
        ref: (R,) log-probabilities under the reference; zeros where the method needs none.
        better: (P,) the preferred answer of each pair.
        worse: (P,) the other one.
        good: (R,) whether an answer is good.
    """

    answers: Answers
    ref: Tensor
    better: Tensor
    worse: Tensor
    good: Tensor

    def loss(self, objective: PreferenceObjective, logps: Tensor, kl: Tensor) -> Loss:
        """The loss of the answers' log-probabilities (R,) under the policy."""
        if isinstance(objective, Kto):
            return objective(logps, self.ref, self.good, kl)
        return objective(self._pairs(logps), self._pairs(self.ref))

    def _pairs(self, logps: Tensor) -> PairLogps:
        lengths = self.answers.lengths
        return PairLogps(logps[self.better], logps[self.worse], lengths[self.better], lengths[self.worse])


class PreferenceTraining:
    """Preference training that keeps the weights with the lowest held-out loss.

    All answers of a prompt stay together in a step and in a microbatch. Every pair weighs the same (KTO: every
    answer), whatever microbatch it is in.

    Args:
        learner: A causal model and its optimiser.
        judged: Training answers, one entry for each prompt.
        held_out: Those of the held-out loss and accuracy; without any the last weights are kept.
        objective: The loss.
        reference: A model that stays as it is; or the policy itself, if it is asked before training; None for
            objectives that need none.
        batch: Prompts a step.
        budget: Tokens a microbatch may hold.
        length: Tokens a row may hold.
        seed: Seed of the order and of KTO's mismatched answers.
        precompute: Ask the reference once, now; otherwise in every step.
    """

    def __init__(
        self,
        learner: Learner,
        judged: Sequence[Judged],
        held_out: Sequence[Judged],
        objective: PreferenceObjective,
        *,
        reference: nn.Module | None,
        batch: int,
        budget: int,
        length: int,
        seed: int,
        precompute: bool = True,
    ) -> None:
        self.learner = learner
        self.objective = objective
        self.reference = reference if objective.needs_reference else None
        self.budget = budget
        self.order = Order(len(judged), batch, seed)
        self.best = Best(learner.model)
        others: list[list[Ranking]] = [[], []]
        if isinstance(objective, Kto):
            others = [mismatched(part, judged, length, seed + i) for i, part in enumerate((judged, held_out))]
        self.examples = self._examples(judged, others[0], precompute)
        self.held_out = self._examples(held_out, others[1], precompute)

    def _examples(self, judged: Sequence[Judged], others: Sequence[Ranking], precompute: bool) -> Examples:
        if self.reference is None or not precompute:
            return Examples(judged, others)
        ref = answer_logps(self.reference, [each.ranking for each in judged], budget=self.budget)
        return Examples(judged, others, ref, answer_logps(self.reference, others, budget=self.budget))

    def step(self, index: int) -> Mapping[str, float]:
        """One optimiser step on the next prompts."""
        places = self.order.at(index)
        model = self.learner.model
        kl = self._kl(self.examples, places)
        # The reference is asked here, before an adapter is put into the base that it may be.
        parts = list(self._parts(self.examples, places))
        model.train()

        def term(part: Part) -> Term:
            return Term(
                lambda: part.loss(self.objective, part.answers.logps(model), kl),
                len(part.good) if isinstance(self.objective, Kto) else len(part.better),
                label=f"prompts of step {index + 1}",
            )

        values = self.learner.update([term(part) for part in parts])
        tokens = sum(self.examples.judged[i].ranking.tokens for i in places)
        return {**self._named(values, kl), "tokens": tokens}

    @torch.no_grad()
    def evaluate(self, index: int) -> Mapping[str, float]:
        """Held-out loss; accuracy of the implicit reward on pairs (without pairs: against z₀); log-probs."""
        places = list(range(len(self.held_out.judged)))
        if not places:
            return {}
        model = self.learner.model
        model.eval()
        kl = self._kl(self.held_out, places)
        sums: dict[str, float] = defaultdict(float)
        count = right = pairs = 0.0
        for part in self._parts(self.held_out, places):
            logps = part.answers.logps(model)
            loss = part.loss(self.objective, logps, kl)
            rewards = self.objective.reward(logps, part.ref, part.answers.lengths)
            right += float(half_right(rewards[part.better] - rewards[part.worse]).sum())
            pairs += len(part.better)
            count += float(loss.count)
            sums["loss"] += float(loss.values.sum())
            for name, metric in loss.metrics.items():
                sums[name] += float(metric * loss.count)
        values = self._named({name: value / count for name, value in sums.items()}, kl)
        self.best.offer(values["loss"], index)
        values["accuracy"] = right / pairs if pairs else values["accuracy"]
        kept = ("loss", "accuracy", "reward/margin", "logps/chosen")
        return {_held_out(name): values[name] for name in kept if name in values}

    def _named(self, values: dict[str, float], kl: Tensor) -> dict[str, float]:
        if isinstance(self.objective, Kto):
            return {**of_their_own(values), "kl/mismatched_nats": float(kl)}
        return values

    def _parts(self, examples: Examples, places: Sequence[int]) -> Iterator[Part]:
        """The microbatches of some prompts."""
        device = tensor_device(self.learner.model)
        for group in microbatches([examples.judged[i].ranking.work for i in places], self.budget):
            chosen = [examples.judged[places[i]] for i in group]
            answers = Answers.of([each.ranking for each in chosen], device)
            starts = torch.tensor([0, *(len(each.good) for each in chosen)]).cumsum(0).tolist()
            pairs = [(s + i, s + j) for s, each in zip(starts, chosen, strict=False) for i, j in each.pairs]
            yield Part(
                answers,
                self._ref(examples, answers, [places[i] for i in group]),
                torch.tensor([i for i, _ in pairs], dtype=torch.long, device=device),
                torch.tensor([j for _, j in pairs], dtype=torch.long, device=device),
                torch.tensor([good for each in chosen for good in each.good], device=device),
            )

    @torch.no_grad()
    def _ref(self, examples: Examples, answers: Answers, places: Sequence[int]) -> Tensor:
        """(R,) log-probabilities under the reference."""
        if examples.ref is not None:
            return torch.cat([examples.ref[i] for i in places])
        if self.reference is None:
            return torch.zeros(len(answers.lengths), dtype=torch.float64, device=answers.lengths.device)
        return answers.logps(self.reference)

    @torch.no_grad()
    def _kl(self, examples: Examples, places: Sequence[int]) -> Tensor:
        """KTO's mean log-ratio (nats) of mismatched answers over all these prompts; 0 for other methods."""
        if self.reference is None or not examples.others:
            return torch.zeros((), dtype=torch.float64, device=tensor_device(self.learner.model))
        rows = [examples.others[i] for i in places]
        policy = answer_logps(self.learner.model, rows, budget=self.budget)
        if examples.ref_others is None:
            ref = answer_logps(self.reference, rows, budget=self.budget)
        else:
            ref = [examples.ref_others[i] for i in places]
        return (torch.cat(policy) - torch.cat(ref)).mean()

    def state_dict(self) -> dict[str, Any]:
        """Learner and best weights; the order needs none, and the reference is asked anew."""
        return {"learner": self.learner.state_dict(), "best": self.best.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.learner.load_state_dict(state["learner"])
        self.best.load_state_dict(state["best"])


def _held_out(name: str) -> str:
    """`reward/margin` as `reward/margin_held_out`, `loss` as `loss/held_out`."""
    return f"{name}_held_out" if "/" in name else f"{name}/held_out"
