"""A full PPO step from Heed's own pieces: rollout, score, reference, critic, advantages, two updates.

SETUPS say how the models are held:

full      policy, reference, reward model and critic, each with weights of its own in float32; AdamW
shared    policy and critic with weights of their own in bfloat16, updated without moments; the reference is read from
          the policy's weights and the reward from the critic's before their update, which is the same arithmetic
adapters  one frozen bfloat16 base: the reference is the base, policy and critic have adapters, the reward model a head
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.gpu.bench import Bench, Cell, figures, shape_of
from benchmarks.gpu.clock import Clock, repeated
from benchmarks.gpu.limits import ppo_seconds, wait
from benchmarks.gpu.sizes import Size, make, prompts
from benchmarks.gpu.training import Descent, compute_of
from heedlm.models.adapters import Adapted, Lora, critic_on, scalar_on
from heedlm.models.scalar import new_critic
from heedlm.objectives import Ppo
from heedlm.ops.gae import gae
from heedlm.ops.kl import k1
from heedlm.ops.types import Rollouts
from heedlm.rewards.shaping import Shaper, Shaping, token_rewards
from heedlm.rollout import Sampling
from heedlm.rollout.native import NativeEngine
from heedlm.train.experience import (
    Experience,
    policy_terms,
    rollout_logps,
    rollout_scores,
    rollout_values,
    value_terms,
)
from heedlm.train.learner import Learner
from heedlm.train.optim import Optim

PHASES = ("rollout", "log-probs", "score", "reference", "values", "advantages", "policy update", "critic update")
_BETA, _LAMBDA = 0.05, 0.95


@dataclass
class Models:
    """The four models of a step, some of which may be the same object."""

    policy: Any
    reference: Any
    reward: Any
    critic: Any
    optim: Optim
    note: str


def cells(size: Size) -> list[Cell]:
    """What is measured at this size."""
    return [Cell("ppo", size.name, f"Heed, {setup}", size.rollouts) for setup in size.setups]


def measure(bench: Bench, size: Size, cell: Cell, clock: Clock) -> dict[str, Any]:
    """Completion tokens a second of whole steps, and the seconds of each phase."""
    bench.forget()
    bench.begin_peak()
    step = Step(SETUPS[cell.who.removeprefix("Heed, ")](bench, size), bench, size)
    spent = repeated(step, clock, bench.device, repeats=bench.work.repeats, warm=[step])
    work, phases = bench.work, step.phases[-len(spent) :]
    frozen = isinstance(step.models.policy, Adapted)
    bound = ppo_seconds(shape_of(size), size.rollouts, work.prompt, work.answer, bench.limits, frozen=frozen)
    return figures(spent, size.rollouts * work.answer, bound) | {
        "phases": {name: statistics.median(found[name] for found in phases) for name in PHASES},
        "note": step.models.note,
        "recompute": size.recompute,
        "packed": getattr(step.models.policy, "_heed_packs", None),
    }


class Step:
    """One PPO step a call, each on prompts of its own; `phases` gathers the seconds of every phase of every call."""

    def __init__(self, models: Models, bench: Bench, size: Size) -> None:
        self.models, self.bench, self.size = models, bench, size
        models.policy.train()
        models.critic.train()
        self.actor, self.judge = (Learner(m, models.optim, 100) for m in (models.policy, models.critic))
        self.shaper = Shaper(Shaping())
        self.phases: list[dict[str, float]] = []

    def __call__(self) -> None:
        """Sample, judge and learn."""
        self.phases.append({})
        seed = self.bench.seed + 10 + len(self.phases)
        work, size = self.bench.work, self.size
        asked = prompts(size, size.rollouts, work.prompt, seed)
        with self._phase("rollout"):
            rollouts = self._sample(asked, seed)
        assert bool((rollouts.response_lengths == work.answer).all()), "an answer ended early"
        self._learn(self._experience(rollouts))

    def _sample(self, asked: list[list[int]], seed: int) -> Rollouts:
        policy = self.models.policy
        # The engine knows plain models only, so an adapter is merged for the time of sampling.
        with policy.merged() if isinstance(policy, Adapted) else nullcontext(policy) as model:
            engine = NativeEngine(model, frozenset(), max_batch=len(asked), dtype="bfloat16")
            return engine.generate(asked, Sampling(max_new_tokens=self.bench.work.answer), seed)

    def _experience(self, rollouts: Rollouts) -> Experience:
        models, budget, mask = self.models, self.size.budget, rollouts.response_mask
        with self._phase("log-probs"):
            logps = rollout_logps(models.policy, rollouts, temperature=1.0, budget=budget)
        with self._phase("score"):
            scores = rollout_scores(models.reward, rollouts, budget=budget)
        with self._phase("reference"):
            reference = rollout_logps(models.reference, rollouts, temperature=1.0, budget=budget)
        with self._phase("values"):
            values = rollout_values(models.critic, rollouts, budget=budget)
        with self._phase("advantages"):
            shaped = self.shaper(scores, rollouts.ended)
            rewards = token_rewards(shaped, k1(logps, reference), mask, _BETA)
            advantages, returns = gae(rewards, values, mask, 1.0, _LAMBDA)
        return Experience(rollouts.tokens, rollouts.lengths, mask, logps, values, advantages, returns)

    def _learn(self, batch: Experience) -> None:
        models, known = self.models, {"budget": self.size.budget, "label": "step"}
        with self._phase("policy update"):
            self.actor.update(policy_terms(models.policy, batch, Ppo(), temperature=1.0, **known))
        with self._phase("critic update"):
            self.judge.update(value_terms(models.critic, batch, Ppo(), weight=1.0, **known))

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        wait(self.bench.device)
        began = time.perf_counter()
        yield
        wait(self.bench.device)
        self.phases[-1][name] = time.perf_counter() - began


def _full(bench: Bench, size: Size) -> Models:
    policy, reference = (make(size, bench.device, torch.float32, bench.seed) for _ in range(2))
    reward = scalar_on(make(size, bench.device, torch.float32, bench.seed + 1))
    critic = new_critic(reward).requires_grad_(True)
    compute_of(size, False).apply(reference, reward)
    compute_of(size, size.recompute).apply(policy, critic)
    reference.requires_grad_(False)
    reward.requires_grad_(False)
    optim = Optim(lr=1e-6, schedule="constant", warmup=0.0)
    return Models(policy, reference, reward, critic, optim, "four models, float32 weights, bfloat16 products, AdamW")


def _shared(bench: Bench, size: Size) -> Models:
    policy = make(size, bench.device, torch.bfloat16, bench.seed)
    critic = scalar_on(make(size, bench.device, torch.bfloat16, bench.seed + 1)).requires_grad_(True)
    # bfloat16 weights need no other precision, whatever the size.
    compute = compute_of(size, size.recompute).model_copy(update={"precision": "float32"})
    compute.apply(policy, critic)
    optim = Descent(lr=1e-6, schedule="constant", warmup=0.0)
    note = "bfloat16 weights, SGD; reference read from the policy's weights, reward from the critic's"
    return Models(policy, policy, critic, critic, optim, note)


def _adapters(bench: Bench, size: Size) -> Models:
    base = make(size, bench.device, torch.bfloat16, bench.seed)
    lora = Lora(rank=size.rank, alpha=float(size.rank))
    policy = lora.on(base, seed=bench.seed)
    critic, reward = critic_on(policy, lora, seed=bench.seed), scalar_on(base, seed=bench.seed + 1)
    reward.requires_grad_(False)
    compute_of(size, size.recompute).model_copy(update={"precision": "float32"}).apply(base, critic.model)
    optim = Optim(lr=1e-5, schedule="constant", warmup=0.0)
    note = (
        f"one bfloat16 base, adapters of rank {size.rank} for policy and critic, AdamW; other work than full training"
    )
    return Models(policy, base, reward, critic, optim, note)


SETUPS: dict[str, Callable[[Bench, Size], Models]] = {"full": _full, "shared": _shared, "adapters": _adapters}
