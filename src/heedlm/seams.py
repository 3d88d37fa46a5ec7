"""Every way to extend Heed, on one page: objectives, engines, rewards, judges, filters, question kinds.

The config object is the implementation: a frozen `Config` in a file of its own, with `name: Literal["…"]`,
whose methods are those of a Protocol here, and one more name in the union of its folder's `__init__.py`.
Nothing is registered. `tests/contracts/test_seams.py` fails for a file that its union does not name, and puts
every member through one suite.

Shapes: B batch, T time, N examples. Log-probabilities and KL are in nats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from heedlm.feedback.kinds.reply import Said
    from heedlm.feedback.tasks import Content
    from heedlm.judges.constitution import Case
    from heedlm.models.chat import Chat
    from heedlm.objectives.bradley_terry import RankedBatch
    from heedlm.ops.types import Loss, PairLogps, Rollouts
    from heedlm.records import Document, Message
    from heedlm.records.types import Row
    from heedlm.rewards.types import Episodes, Reward
    from heedlm.rollout import Sampling


class Named(Protocol):
    """What every member of a union has: the `name` that chooses it in a config."""

    @property
    def name(self) -> str:
        """The member's name, a Literal."""
        ...


# ---------------------------------------------------------------- objectives/


class TokenObjective(Named, Protocol):
    """A loss over given tokens: pretraining, fine-tuning."""

    def __call__(self, logps: Tensor, mask: Tensor) -> Loss:
        """Loss of log-probabilities (B, T) at the True cells of the mask (B, T); counts tokens."""
        ...


class RankingObjective(Named, Protocol):
    """A loss over the scores of ranked answers: reward models."""

    def __call__(self, scores: Tensor, comparisons: RankedBatch) -> Loss:
        """Loss of scores (N,) under comparisons of them; counts prompts."""
        ...


class StepObjective(Named, Protocol):
    """A loss over the scores of an answer's steps: process reward models."""

    def targets(self, labels: Sequence[int], chances: Sequence[float] | None = None) -> list[float]:
        """What the first so many steps are to learn, from their labels (1, 0, −1) and chances of success."""
        ...

    def __call__(self, scores: Tensor, targets: Tensor, mask: Tensor) -> Loss:
        """Loss of scores (B, T) after each step under targets (B, T), where the mask is True; counts steps."""
        ...


class PairObjective(Named, Protocol):
    """A loss over a preferred and a rejected answer, straight on the policy: DPO and its kin."""

    needs_reference: ClassVar[bool]

    def reward(self, logps: Tensor, ref: Tensor, lengths: Tensor) -> Tensor:
        """Implicit rewards of answers, from their log-probabilities (B,) and lengths in tokens (B,)."""
        ...

    def __call__(self, policy: PairLogps, ref: PairLogps) -> Loss:
        """Loss of both answers' log-probabilities (B,) under policy and reference; counts pairs.

        What `ref` holds does not matter to an objective that needs no reference.
        """
        ...


class SingleObjective(Named, Protocol):
    """A loss over single answers marked good or bad: KTO and its kin."""

    needs_reference: ClassVar[bool]

    def reward(self, logps: Tensor, ref: Tensor, lengths: Tensor) -> Tensor:
        """Implicit rewards of answers, from their log-probabilities (B,) and lengths in tokens (B,)."""
        ...

    def __call__(self, logps: Tensor, ref: Tensor, desirable: Tensor, kl: Tensor) -> Loss:
        """Loss of answers' log-probabilities (B,) under policy and reference; counts answers.

        `desirable` (B,) is True for good answers, `kl` a (scalar) estimate of the KL to the reference.
        """
        ...


class CriticObjective(Named, Protocol):
    """The losses over sampled answers with a critic: PPO."""

    def policy(
        self,
        logps: Tensor,
        old_logps: Tensor,
        advantages: Tensor,
        mask: Tensor,
        spread: Tensor | None = None,
        ref: Tensor | None = None,
        beta: float = 0.0,
        room: int = 1,
    ) -> Loss:
        """Loss of the policy (all B, T) over response tokens.

        `spread` is its entropy and `ref` the reference's log-probabilities, where the objective asks for them;
        `beta` is the loss of a nat of KL, `room` the most tokens an answer may have.
        """
        ...

    def value(self, values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor) -> Loss:
        """Loss of the critic (all B, T) over response tokens; counts tokens."""
        ...


class GroupObjective(Named, Protocol):
    """The loss over sampled answers without a critic: GRPO and its kin, online DPO."""

    group: ClassVar[int]  # answers to each prompt, if nothing else is asked for
    rows: ClassVar[int]  # answers that only make sense together

    def advantages(self, rewards: Tensor, mask: Tensor, group: int) -> Tensor:
        """Advantages (B, T) from the rewards of tokens (B, T); answers to one prompt stand together."""
        ...

    def policy(
        self,
        logps: Tensor,
        old_logps: Tensor,
        advantages: Tensor,
        mask: Tensor,
        spread: Tensor | None = None,
        ref: Tensor | None = None,
        beta: float = 0.0,
        room: int = 1,
    ) -> Loss:
        """As a `CriticObjective`'s."""
        ...

    def count(self, mask: Tensor) -> Tensor:
        """What the loss is a mean over: tokens, answers or pairs of a mask (B, T)."""
        ...


# ---------------------------------------------------------------- rollout/


class Engine(Named, Protocol):
    """The settings of a rollout engine, in the union `rollout.Engine`."""

    def bind(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> RolloutEngine:
        """An engine that samples from this model."""
        ...


class RolloutEngine(Protocol):
    """What samples answers."""

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seed: int) -> Rollouts:
        """One answer for each prompt (token ids), in order.

        Its log-probabilities are those of the distribution it was sampled from. The same prompts, settings,
        seed and weights give the same answers.
        """
        ...

    def sync(self, weights: Mapping[str, Tensor]) -> None:
        """Take over the policy's weights before the next answers."""
        ...


# ---------------------------------------------------------------- rewards/


class Scorer(Protocol):
    """A reward source ready for use."""

    def score(self, episodes: Episodes) -> Reward:
        """A total for each answer (B,), named parts, and rewards of single tokens if the source has any."""
        ...


@runtime_checkable
class AdaptiveScorer(Scorer, Protocol):
    """A scorer that changes in training with what it has scored; its state belongs to the run's."""

    def observe(self, reward: Reward) -> None:
        """Take in the scores of a buffer that the policy is about to learn from. Only this changes the state."""
        ...

    def state_dict(self) -> dict[str, float]:
        """What a resumed run goes on from."""
        ...

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a state."""
        ...


class RewardSource(Named, Protocol):
    """Where reward comes from: a learned model, a rule, a judge, a game."""

    def open(self, chat: Chat, device: torch.device | str = "cpu") -> Scorer:
        """Load what scoring needs, onto the device of the policy's answers.

        BadInput if that cannot be used with the policy behind `chat`.
        """
        ...


# ---------------------------------------------------------------- judges/


class Verdict(NamedTuple):
    """A judge's word on two answers.

    Attributes:
        preference: Probability that the first answer is better; None if the judge's reply could not be read,
            which the caller counts and never guesses.
        reason: What the judge said, for people to read.
    """

    preference: float | None
    reason: str = ""


class Judge(Named, Protocol):
    """What compares two answers, in the order given; the caller asks again with the order swapped."""

    def compare(self, prompt: Sequence[Message], a: str, b: str) -> Verdict:
        """Which answer is better. The answers are data: an instruction inside one is not followed."""
        ...


# ---------------------------------------------------------------- judges/reviewers/


class Reviewer(Named, Protocol):
    """What criticises, revises and grades answers; None stands for a reply that could not be read."""

    def critique(self, cases: Sequence[Case], seed: int = 0) -> list[str | None]:
        """What is wrong with each answer under its case's principle."""
        ...

    def revise(self, cases: Sequence[Case], critiques: Sequence[str], seed: int = 0) -> list[str | None]:
        """A better answer in the light of each critique."""
        ...

    def grade(self, cases: Sequence[Case], seed: int = 0) -> list[float | None]:
        """Points of each answer, from 0 to 5; another seed is another judgement."""
        ...


# ---------------------------------------------------------------- corpus/filters/


class CorpusFilter(Named, Protocol):
    """What keeps a document out of the training text."""

    def reject(self, document: Document) -> str | None:
        """Why the document is left out, in a few words that can be counted; None keeps it."""
        ...


# ---------------------------------------------------------------- feedback/


class QuestionKind(Named, Protocol):
    """A kind of question put to people: ranking, rating, thumbs.

    A reply is stored by the answers' own indices; `order[k]` is the index of the answer shown in place k.
    """

    objective: ClassVar[str]  # what its records train
    title: ClassVar[str]  # what a person is asked to do
    fewest: ClassVar[int]  # answers an item needs
    most: ClassVar[int]

    def check(self, content: Content, reply: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        """The reply as the page sends it, as it is stored. BadInput says what is wrong with it."""
        ...

    def shown(self, reply: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
        """A stored reply as the page shows it: the inverse of `check`."""
        ...

    def records(self, content: Content, reply: Mapping[str, Any], said: Said) -> Sequence[Row]:
        """The rows that a stored reply becomes; none if it says that the question cannot be answered."""
        ...

    def same(self, expected: Mapping[str, Any], reply: Mapping[str, Any]) -> float:
        """How far a reply is the expected one, from 0 to 1: what gold items and qualification go by."""
        ...
