"""Settings of reinforcement learning: every ingredient of PPO-max is one of them (docs/methods.md §4.2).

What only a critic needs (`critic`, `gamma`, `lam`) does nothing for objectives without one.
"""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from heedlm.config import Config as Settings
from heedlm.config import Device, StageConfig
from heedlm.models.adapters import Lora
from heedlm.models.compute import Compute
from heedlm.monitor import Thresholds
from heedlm.monitor.guard import Action, Rollback
from heedlm.objectives import Ppo, RolloutObjective
from heedlm.rewards import RewardSource, is_learned
from heedlm.rewards.shaping import Shaping
from heedlm.rollout import Engine, Native, Sampling
from heedlm.train.loop import Cadence
from heedlm.train.optim import Optim


class Kl(Settings):
    """The leash to the reference model."""

    coef: NonNegativeFloat = Field(0.2, description="β: reward units lost for each nat of KL, token by token")
    target: PositiveFloat | None = Field(None, description="nats a sequence to steer β towards; none: β stays")
    horizon: PositiveFloat = Field(10_000.0, description="rollouts over which β moves by at most a fifth")

    @field_validator("target")
    @classmethod
    def _can_move(cls, target: float | None, info: ValidationInfo) -> float | None:
        if target is not None and info.data.get("coef") == 0:
            raise ValueError("needs a coef above 0 to start from: factors cannot move β away from 0")
        return target


class Advantages(Settings):
    """What becomes of the advantages of each minibatch."""

    whiten: bool = Field(False, description="mean 0, deviation 1 over each minibatch's response tokens")
    clip: PositiveFloat | None = Field(None, description="advantages are clipped to ± this; none: no clip")


class Critic(Settings):
    """The value model."""

    init: Literal["reward", "policy"] = Field(
        "reward", description="weights it starts from; a rule has no model: policy, with a fresh head"
    )
    pretrain: NonNegativeInt = Field(20, description="most rollout buffers it is trained on before the policy moves")
    settled: PositiveFloat = Field(0.02, description="pretraining ends when its loss falls by less than this share")
    coef: PositiveFloat = Field(
        1.0, description="factor of the value loss; with an optimiser of its own it scales the clip"
    )
    optim: Optim = Field(Optim(lr=1e-3, schedule="constant", warmup=0.0), description="optimiser of the critic")


class Mix(Settings):
    """The pretraining mix: a next-token loss beside PPO's, so that other skills stay (Ouyang et al. 2022, eq. 2)."""

    coef: NonNegativeFloat = Field(0.1, description="weight of its mean loss a token; 0: none")
    data: str | None = Field(None, description="text or demonstrations: a file or a run; none: no mix")
    role: Literal["corpus", "demonstrations"] = Field("corpus", description="which data of a run")
    length: PositiveInt = Field(128, description="tokens of a packed row")
    batch: PositiveInt = Field(8, description="packed rows for each minibatch of rollouts")


class Config(StageConfig):
    """Settings of reinforcement learning; PPO-max (Zheng et al. 2023) at tiny scale, docs/methods.md §9."""

    model: str = Field(description="policy to start from, usually the SFT run; a base model works too")
    reward: RewardSource = Field(
        description="a reward run; a rule: gold, ends_well, near_length, pattern; the game walk; your own .py file"
    )
    prompts: str = Field(description="prompts to answer: a file, or a village run")
    prompts_dev: str | None = Field(None, description="prompts watched during training; by default the run's own")
    reference: str | None = Field(None, description="model that KL is measured to; by default the starting policy")
    objective: RolloutObjective = Field(
        Ppo(), description="the method: ppo with a critic; rloo, grpo, dr_grpo, dapo, reinforce_pp, online_dpo without"
    )
    group: PositiveInt | None = Field(
        None, description="answers to each prompt of a buffer (K); none: as many as the objective is used to"
    )
    kl: Kl = Field(Kl(), description="leash to the reference")
    shaping: Shaping = Field(Shaping(), description="from scores to rewards")
    gamma: float = Field(1.0, gt=0, le=1, description="discount")
    lam: float = Field(0.95, ge=0, le=1, description="λ of generalised advantage estimation")
    advantages: Advantages = Field(Advantages(), description="from advantages to what the policy learns from")
    ratio_to: Literal["rollouts", "reference"] = Field(
        "rollouts", description="policy that the ratio is taken to: the one that sampled, or always the reference"
    )
    critic: Critic = Field(Critic(), description="value model")
    mix: Mix = Field(Mix(), description="pretraining mix")
    steps: PositiveInt = Field(200, description="rollout buffers, each with its updates")
    rollouts: PositiveInt = Field(64, description="answers in a buffer")
    minibatch: PositiveInt = Field(32, description="answers an optimiser step learns from")
    passes: PositiveInt = Field(1, description="times each buffer is gone through")
    sampling: Sampling = Field(
        Sampling(max_new_tokens=48), description="how rollouts are sampled; only temperature bends"
    )
    engine: Engine = Field(Native(), description="what generates")
    optim: Optim = Field(Optim(lr=3e-4, schedule="constant", warmup=0.0), description="optimiser of the policy")
    budget: PositiveInt = Field(4096, description="tokens a forward and backward pass may hold")
    device: Device = "auto"
    compute: Compute = Field(Compute(), description="precision of training, and memory against time")
    lora: Lora = Field(Lora(), description="train low-rank adapters beside frozen weights that all models share")
    average: float | None = Field(
        None, gt=0, lt=1, description="decay a step of an exponential mean of the weights, which is what is saved"
    )
    watch: PositiveInt = Field(128, description="held-out prompts answered at each evaluation")
    watch_by: RewardSource | None = Field(
        None, description="who decides the win rate on them, not the training reward; by default gold, if there is one"
    )
    guard: Literal["auto"] | Action = Field(
        "auto",
        description="at a collapse: go back and on more carefully, stop, or nothing; auto: rollback with a reward "
        "model, off with a rule or a game, whose reward is what is wanted",
    )
    monitor: Thresholds = Field(Thresholds(), description="when the collapse detector raises an alarm")
    keep: Literal["best", "last"] = Field(
        "best",
        description="weights the run ends with; best: those of the highest win rate, if the last ones' is lower by "
        "more than chance and the guard kept them",
    )
    rollback: Rollback = Field(Rollback(), description="how training goes on after a collapse")
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")
    cadence: Cadence = Field(Cadence(evaluate=20, checkpoint=100), description="evaluation and checkpoints")

    @property
    def answers(self) -> int:
        """Answers to each prompt of a buffer."""
        return self.group or self.objective.group

    @property
    def updates(self) -> int:
        """Optimiser steps of the whole run, if something is learned from every prompt."""
        rows = self.rollouts if self.objective.rows == 1 else self.rollouts // self.answers * self.objective.rows
        return self.steps * self.passes * -(-rows // self.minibatch)

    @property
    def on_collapse(self) -> Action:
        """What the guard does. Where the reward cannot be fooled, certainty and drift may be what was to be learned."""
        if self.guard != "auto":
            return self.guard
        return "rollback" if is_learned(self.reward) else "off"

    @field_validator("average")
    @classmethod
    def _not_beside_adapters(cls, average: float | None, info: ValidationInfo) -> float | None:
        lora = info.data.get("lora")
        if average is not None and lora is not None and lora.rank:
            raise ValueError("a mean of adapters' weights is none of the weights they make: leave it out with lora")
        return average
