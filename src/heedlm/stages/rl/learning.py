"""One step: a buffer of rollouts, what each token deserved, and the updates that learn from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from heedlm import runs
from heedlm.errors import NotFinite
from heedlm.evals.text import distinct_n, repetition
from heedlm.models.adapters import Adapted
from heedlm.models.chat import Chat
from heedlm.objectives import OnlineDpo, Ppo
from heedlm.ops.gae import gae
from heedlm.ops.kl import AdaptiveKl, k1
from heedlm.ops.masked import masked_whiten
from heedlm.records import Prompt
from heedlm.rewards import Episodes
from heedlm.rewards.shaping import Shaper, token_rewards
from heedlm.rollout.answering import answer
from heedlm.runs import Run
from heedlm.seams import AdaptiveScorer
from heedlm.stages.rl.config import Config
from heedlm.stages.rl.groups import group_facts, length_penalty, teaching
from heedlm.stages.rl.watching import Watch
from heedlm.train.batching import Order, Row
from heedlm.train.experience import (
    AdaptedEngine,
    Experience,
    policy_terms,
    rollout_logps,
    rollout_statistics,
    rollout_values,
    value_terms,
)
from heedlm.train.facts import explained_variance, reward_facts, rollout_facts
from heedlm.train.language import language_terms
from heedlm.train.learner import Learner
from heedlm.train.loop import Paused


@dataclass
class Pending:
    """A step under way: its buffer, and how far learning from it has come.

    Attributes:
        experience: The buffer.
        facts: What the logs keep of it.
        updates: Minibatches learned from.
        sums: Sums over these of their metrics.
        first: Some metrics of the first minibatch.
    """

    experience: Experience
    facts: dict[str, float]
    updates: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)


class Reinforcement:
    """Policy and critic learn, reference and reward stay as they are; objectives without a critic have none.

    With adapters the reference is the policy's base, which is that plain model whenever no adapter is in place.
    A step can pause after its rollouts and after each minibatch; critic pretraining after each buffer.
    """

    def __init__(
        self,
        config: Config,
        run: Run,
        policy: PreTrainedModel | Adapted,
        reference: PreTrainedModel,
        critic: PreTrainedModel | Adapted | None,
        reward: Any,
        chat: Chat,
        prompts: Sequence[Prompt],
        watch: Watch,
        mix: list[list[Row]],
    ) -> None:
        self.config, self.run, self.chat = config, run, chat
        self.policy, self.reference, self.reward = policy, reference.requires_grad_(False), reward
        # Activations are recomputed in training mode only; there is no dropout that it could switch on.
        policy.train()
        self.actor = Learner(policy, config.optim, config.updates)
        self.critic = Learner(critic.train(), config.critic.optim, config.updates) if critic is not None else None
        self.engine = (
            AdaptedEngine(config.engine, policy, chat.tokenizer)
            if isinstance(policy, Adapted)
            else config.engine.bind(policy, chat.tokenizer)
        )
        self.shaper = Shaper(config.shaping)
        self.beta = config.kl.coef
        self.controller = (
            AdaptiveKl(config.kl.coef, config.kl.target, config.kl.horizon) if config.kl.target is not None else None
        )
        self.prompts = prompts
        self.order = self._order(0)
        self.mix = mix
        self.mix_order = Order(len(mix), config.mix.batch, config.seed + 1) if mix else None
        self.watch = watch
        self.pending: Pending | None = None
        self.critic_losses: list[float] = []  # one for each buffer of its pretraining
        self.critic_tokens = 0.0  # sampled in them, until the first step logs them
        self.critic_ready = critic is None
        self.rollbacks = 0  # after so many the settings are as careful as they are
        self.mean: dict[str, Tensor] = self._weights() if config.average is not None else {}

    def step(self, index: int) -> Mapping[str, float]:
        """One buffer of rollouts and its updates.

        Raises:
            Paused: A stop was asked for; the same step goes on where it was.
            NotFinite: Something became NaN or infinite, with the batch it came from.
        """
        if not self.critic_ready:
            self._pretrain_critic()
        began = perf_counter()
        if self.pending is None:
            self.pending = Pending(*self._gather(index))
            self._may_pause()
        collected = perf_counter()
        values = self._learn(self.pending, index) | self.pending.facts
        if self.controller is not None:
            self.beta = self.controller.update(values["kl/mean_nats"], self.config.rollouts)
        self._take_mean()
        # A buffer that an earlier version left half learned from does not tell its tokens.
        values["tokens"] = values.get("tokens", 0.0) + self.critic_tokens
        self.pending, self.critic_tokens = None, 0.0
        done = perf_counter()
        return {
            **values,
            "kl/coef": self.beta,
            "time/collect_seconds": collected - began,
            "time/learn_seconds": done - collected,
        }

    def evaluate(self, index: int) -> Mapping[str, float]:
        """Answer the watched prompts and compare with the starting policy's answers to them."""
        known = self.config.reference is None
        values, rows = self.watch.look(self.engine, self._starting_engine if known else None)
        self.run.samples(index, rows)
        return values

    def steady(self, times: int) -> Mapping[str, float]:
        """Be as careful as after so many rollbacks: a lower rate, a shorter leash (docs/methods.md §4.4)."""
        rules = self.config.rollback
        for _ in range(times - self.rollbacks):
            self.actor.scale *= rules.lr
            if self.critic is not None:
                self.critic.scale *= rules.lr
            self.beta = self.beta * rules.kl if self.beta > 0 else rules.kl_start
            if self.controller is not None:
                self.controller.beta = self.beta
        self.rollbacks, self.pending = max(times, self.rollbacks), None
        return {"lr_scale": self.actor.scale, "kl_coef": self.beta}

    def settle(self) -> None:
        """Put the mean weights into the policy, if they were asked for: training is over."""
        if self.mean:
            self.policy.load_state_dict(self.mean, strict=False)

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on; orders and seeds are functions of the step number."""
        return {
            "actor": self.actor.state_dict(),
            "critic": self.critic.state_dict() if self.critic else None,
            "shaper": self.shaper.state_dict(),
            "reward": self.reward.state_dict() if isinstance(self.reward, AdaptiveScorer) else None,
            "beta": self.beta,
            "controller": self.controller.state_dict() if self.controller else None,
            "watch": self.watch.state_dict(),
            "critic_losses": self.critic_losses,
            "critic_tokens": self.critic_tokens,
            "critic_ready": self.critic_ready,
            "rollbacks": self.rollbacks,
            "mean": dict(self.mean),
            "pending": None if self.pending is None else asdict(self.pending),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.actor.load_state_dict(state["actor"])
        if self.critic is not None:
            self.critic.load_state_dict(state["critic"])
        self.shaper.load_state_dict(state["shaper"])
        if isinstance(self.reward, AdaptiveScorer):
            self.reward.load_state_dict(state["reward"])
        self.beta = float(state["beta"])
        if self.controller is not None:
            self.controller.load_state_dict(state["controller"])
        self.watch.load_state_dict(state["watch"])
        self.critic_losses, self.critic_ready = list(state["critic_losses"]), bool(state["critic_ready"])
        self.critic_tokens = float(state.get("critic_tokens", 0.0))  # checkpoints of earlier versions have none
        self.rollbacks, self.mean = int(state["rollbacks"]), dict(state["mean"])
        self.pending = None
        if state["pending"] is not None:
            known = dict(state["pending"])
            self.pending = Pending(Experience(**known.pop("experience")), **known)

    def _seed(self, index: int, purpose: int = 0) -> int:
        return (self.config.seed * 1_000_003 + index) * 16 + purpose

    def _may_pause(self) -> None:
        """Between two minibatches everything a checkpoint needs is at rest."""
        if runs.stop_requested():
            raise Paused

    def _order(self, purpose: int) -> Order:
        return Order(len(self.prompts), self.config.rollouts // self.config.answers, self.config.seed + purpose)

    def _asked(self, places: Sequence[int]) -> list[Prompt]:
        """Each of these prompts as often as it is to be answered."""
        return [self.prompts[i] for i in places for _ in range(self.config.answers)]

    def _gather(self, index: int) -> tuple[Experience, dict[str, float]]:
        """The buffer of a step; where nothing can be learned from a prompt's answers others may take its place.

        The facts are those of the first answers, before any were left out: what the monitor sees stays comparable.
        Only `tokens` counts all that were sampled: they cost the same, whether anything is learned from them or not.
        """
        objective, wanted = self.config.objective, self.order.batch
        label = f"buffer of step {index + 1}"
        experience, facts = self._collect(self._asked(self.order.at(index)), self._seed(index), label)
        rounds = 0 if isinstance(objective, Ppo) else objective.resample
        more = self._order(3)
        of_a_prompt = objective.rows if objective.rows > 1 else self.config.answers
        for attempt in range(rounds):
            missing = wanted - len(experience) // of_a_prompt
            if missing <= 0:
                break
            places = more.at(index * rounds + attempt)[:missing]
            found, others = self._collect(self._asked(places), self._seed(index, 4 + attempt), label)
            experience = Experience.cat([experience, found])
            facts["tokens"] += others["tokens"]
        if rounds or objective.rows > 1:
            facts["group/taught"] = len(experience) / of_a_prompt / wanted
        return experience, facts

    def _collect(self, prompts: Sequence[Prompt], seed: int, label: str) -> tuple[Experience, dict[str, float]]:
        """Sample answers, score them, and work out what each token deserved."""
        config, objective = self.config, self.config.objective
        try:
            texts, rollouts = answer(self.engine, self.chat, prompts, config.sampling, seed)
            reward = self.reward.score(Episodes(prompts, texts, rollouts))
            shaped = self.shaper(reward.total, rollouts.ended)
            if self.critic_ready and isinstance(self.reward, AdaptiveScorer):
                self.reward.observe(reward)
        except NotFinite as error:
            raise NotFinite(f"{label}: {error}") from error
        penalty = length_penalty(config, rollouts.response_lengths)
        if penalty is not None:
            shaped = shaped - penalty
        temperature = config.sampling.temperature
        logps, spread = rollout_statistics(self.policy, rollouts, temperature=temperature, budget=config.budget)
        reference = rollout_logps(self.reference, rollouts, temperature=temperature, budget=config.budget)
        mask = rollouts.response_mask
        beta = self.beta if objective.kl == "reward" else 0.0
        rewards = token_rewards(shaped, k1(logps, reference), mask, beta, reward.steps)
        facts = rollout_facts(rollouts, logps, reference, spread) | reward_facts(reward.total, shaped)
        facts |= {f"reward/part_{name}": float(part.mean()) for name, part in reward.parts.items()}
        facts["tokens"] = float(rollouts.response_lengths.sum())
        facts |= {"text/distinct_2": distinct_n(texts, 2), "text/repetition_4": _mean([repetition(t) for t in texts])}
        values = returns = None
        if isinstance(objective, Ppo):
            assert self.critic is not None
            values = rollout_values(self.critic.model, rollouts, budget=config.budget)
            advantages, returns = gae(rewards, values, mask, config.gamma, config.lam)
            facts["critic/explained_variance"] = explained_variance(values, returns, mask)
        else:
            advantages = objective.advantages(rewards, mask, config.answers)
        worth = reward.total if reward.steps is None else reward.total + reward.steps.sum(1)
        if config.answers > 1:
            facts |= group_facts(worth, config.answers)
        facts["advantage/std"] = float(advantages[mask].std(correction=0))
        old = logps if config.ratio_to == "rollouts" else reference
        known = reference if objective.kl == "loss" or isinstance(objective, OnlineDpo) else None
        experience = Experience(rollouts.tokens, rollouts.lengths, mask, old, values, advantages, returns, known)
        rows = teaching(config, worth, advantages, rollouts.ended)
        return experience if rows is None else experience.select(rows), facts

    def _learn(self, pending: Pending, index: int) -> dict[str, float]:
        """Passes over the buffer in shuffled minibatches; metrics are means over minibatches."""
        config = self.config
        generator = torch.Generator().manual_seed(self._seed(index, 1))
        order = [
            rows
            for _ in range(config.passes)
            for rows in pending.experience.minibatches(config.minibatch, generator, config.objective.rows)
        ]
        sums = defaultdict(float, pending.sums)
        for rows in order[pending.updates :]:
            label = f"minibatch {pending.updates + 1} of step {index + 1}"
            values = self._update(pending.experience.select(rows), label)
            pending.first = pending.first or {
                f"first/{name}": values[f"policy/{name}"]
                for name in ("ratio", "approx_kl", "clip_fraction")
                if f"policy/{name}" in values
            }
            for name, value in values.items():
                sums[name] += value
            pending.updates, pending.sums = pending.updates + 1, dict(sums)
            if pending.updates < len(order):
                self._may_pause()
        # Without a prompt that something could be learned from there was no update.
        return {name: value / max(pending.updates, 1) for name, value in sums.items()} | pending.first

    def _update(self, batch: Experience, label: str) -> dict[str, float]:
        """One step of policy and critic."""
        config = self.config
        shaped = batch.advantages
        if config.advantages.whiten:
            shaped = masked_whiten(shaped, batch.mask)
        if config.advantages.clip is not None:
            shaped = shaped.clamp(-config.advantages.clip, config.advantages.clip)
        terms = policy_terms(
            self.policy, batch.with_advantages(shaped), config.objective,
            temperature=config.sampling.temperature, budget=config.budget, label=label,
            beta=self.beta, room=config.sampling.max_new_tokens,
        )  # fmt: skip
        found = self.actor.update(terms + self._mix_terms(label))
        values = {_under("policy", name): value for name, value in found.items()}
        return values | self._learn_critic(batch, label)

    def _learn_critic(self, batch: Experience, label: str) -> dict[str, float]:
        config, objective = self.config, self.config.objective
        if self.critic is None or not isinstance(objective, Ppo):
            return {}
        terms = value_terms(
            self.critic.model, batch, objective, weight=config.critic.coef, budget=config.budget, label=label
        )
        return {_under("critic", name): value for name, value in self.critic.update(terms).items()}

    def _mix_terms(self, label: str) -> list[Any]:
        if self.mix_order is None:
            return []
        groups = [self.mix[i] for i in self.mix_order.at(self.actor.step)]
        return language_terms(
            self.policy,
            groups,
            budget=self.config.budget,
            weight=self.config.mix.coef,
            group="mix",
            label=label,
        )

    def _pretrain_critic(self) -> None:
        """Train the critic alone on the starting policy's rollouts until its loss settles (Zheng et al. 2023, §5.3)."""
        config, losses = self.config.critic, self.critic_losses
        order = self._order(2)
        while len(losses) < config.pretrain and not _settled(losses, config.settled):
            index = len(losses)
            label = f"critic pretraining buffer {index + 1}"
            experience, facts = self._collect(self._asked(order.at(index)), self._seed(index, 2), label)
            self.critic_tokens += facts["tokens"]
            generator = torch.Generator().manual_seed(self._seed(index, 3))
            found = [
                self._learn_critic(experience.select(rows), label)["critic/value_error"]
                for rows in experience.minibatches(self.config.minibatch, generator)
            ]
            losses.append(_mean(found))
            self._may_pause()
        self.critic_ready = True
        self.run.note(critic_pretraining_losses=losses)

    def _starting_engine(self) -> Any:
        """Samples from the starting policy, which the reference is."""
        return self.config.engine.bind(self.reference, self.chat.tokenizer)

    def _weights(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.policy.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def _take_mean(self) -> None:
        """The exponential mean of the weights (Ouyang et al. 2022, appendix C.4)."""
        for name, weight in self.policy.named_parameters() if self.mean else ():
            if name in self.mean:
                self.mean[name].lerp_(weight.detach(), 1 - (self.config.average or 0.0))


def _settled(losses: Sequence[float], share: float) -> bool:
    """Whether the last three buffers' loss is hardly below that of the three before."""
    return len(losses) >= 6 and _mean(losses[-3:]) > (1 - share) * _mean(losses[-6:-3])


def _under(head: str, name: str) -> str:
    """`grad_norm` of the policy's learner becomes `policy/grad_norm`; a loss keeps its own name."""
    return name if name.startswith("loss/") else f"{head}/{name}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)
