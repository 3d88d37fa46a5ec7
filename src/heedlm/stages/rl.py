"""Reinforcement learning from a reward: a policy, prompts and a reward source in, a better policy out.

`heed ppo` is this stage with the PPO objective and a critic. One step is one buffer of rollouts and its updates.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import torch
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)
from transformers import PreTrainedModel

from heedlm import runs
from heedlm.config import Config as Settings
from heedlm.config import Device, StageConfig
from heedlm.errors import BadInput
from heedlm.evals.text import distinct_n, repetition
from heedlm.evals.winrate import outcomes_from_scores, win_rate
from heedlm.models.adapters import Adapted, Lora, critic_on, save_outputs, whole
from heedlm.models.chat import Chat
from heedlm.models.compute import Compute, find_device
from heedlm.models.forward import context_limit, tensor_device
from heedlm.models.load import check_same_vocabulary, load_with_tokenizer, parameters
from heedlm.models.scalar import new_critic, new_reward
from heedlm.objectives import Ppo
from heedlm.ops.gae import gae
from heedlm.ops.kl import AdaptiveKl, k1
from heedlm.ops.masked import masked_whiten
from heedlm.records import Demonstration, Document, Prompt, Rows, read
from heedlm.rewards import Episodes, GoldReward, Learned, RewardSource
from heedlm.rewards.learned import LearnedReward
from heedlm.rewards.shaping import Shaper, Shaping, token_rewards
from heedlm.rollout import Engine, Native, Sampling
from heedlm.rollout.answering import answer, fitting
from heedlm.runs import Input, Run
from heedlm.train.batching import Order, Row
from heedlm.train.experience import AdaptedEngine, Experience, policy_terms, rollout_logps, rollout_values, value_terms
from heedlm.train.facts import explained_variance, reward_facts, rollout_facts
from heedlm.train.language import chunk, language_terms, packed
from heedlm.train.learner import Learner
from heedlm.train.loop import Cadence, train, use_threads
from heedlm.train.optim import Optim
from heedlm.train.state import seed_everything


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


class Critic(Settings):
    """The value model."""

    init: Literal["reward", "policy"] = Field(
        "reward", description="weights it starts from; a rule has no model: policy"
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
    reward: RewardSource = Field(description="a reward run, or a rule: gold, ends_well, near_length, pattern")
    prompts: str = Field(description="prompts to answer: a file, or a village run")
    prompts_dev: str | None = Field(None, description="prompts watched during training; by default the run's own")
    reference: str | None = Field(None, description="model that KL is measured to; by default the starting policy")
    objective: Ppo = Field(Ppo(), description="loss of policy and critic")
    kl: Kl = Field(Kl(), description="leash to the reference")
    shaping: Shaping = Field(Shaping(), description="from scores to rewards")
    gamma: float = Field(1.0, gt=0, le=1, description="discount")
    lam: float = Field(0.95, ge=0, le=1, description="λ of generalised advantage estimation")
    advantages: Literal["raw", "whiten"] = Field("raw", description="whiten: mean 0, deviation 1 over each buffer")
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
    watch: PositiveInt = Field(128, description="held-out prompts answered at each evaluation")
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")
    cadence: Cadence = Field(Cadence(evaluate=20, checkpoint=100), description="evaluation and checkpoints")


def run(config: Config, resume: Path | None = None) -> Run:
    """Train the policy and return the run.

    Raises:
        BadInput: A file or model is unusable, or the sampling is one whose log-probs cannot be trained on.
    """
    use_threads(config.threads)
    device = find_device(config.device)
    seed_everything(config.seed)
    if config.lora.dropout > 0:
        raise BadInput("lora.dropout: PPO compares log-probs of one policy before and during an update; leave it at 0")
    if config.sampling.temperature == 0 or config.sampling.top_p < 1 or config.sampling.top_k > 0:
        raise BadInput(
            "sampling: PPO needs log-probs of the whole distribution it samples from; use a temperature above 0 "
            "and leave top_p=1 and top_k=0"
        )
    prompts = read(runs.find_data(config.prompts, "prompts"), Prompt, max_bad_rows=config.max_bad_rows)
    model, tokenizer = load_with_tokenizer(runs.find_model(config.model), device=device)
    chat = Chat(tokenizer)
    policy = config.lora.on(model, seed=config.seed) if config.lora.rank else model
    reference = _reference(config, model, chat)
    reward = _reward(config, model, chat)
    critic = _critic(config, policy, reward)
    # Not the reward model: what is maximised stays exact.
    config.compute.apply(model, reference, whole(critic))
    prompts = fitting(prompts, chat, model, config.sampling.max_new_tokens)
    watched = _watched(config)
    if watched is not None:
        watched = fitting(watched, chat, model, config.sampling.max_new_tokens)
    mix = _mix(config, chat, model)
    this = Run.resume(resume) if resume else Run.create("ppo", config, _inputs(config))
    with this:
        runs.quarantine(this, "prompts", prompts)
        if watched is not None:
            runs.quarantine(this, "prompts_dev", watched)
        shown = prompts.rows if watched is None else watched.rows
        method = Reinforcement(config, this, policy, reference, critic, reward, chat, prompts, shown, mix)
        train(this, method, steps=config.steps, cadence=config.cadence, title="ppo")
        this.note(parameters=parameters(model), **{f"final/{k}": v for k, v in method.last_watch.items()})
        if isinstance(policy, Adapted):
            this.note(trained_parameters=parameters(policy), trained_parameters_critic=parameters(critic))
            others = {"reference": reference, "critic": critic, "reward": getattr(reward, "model", None)}
            this.note(on_the_policys_base=[n for n, other in others.items() if other and policy.shares_base(other)])
        save_outputs(this, policy, tokenizer, "A policy trained by PPO against a reward.")
        save_outputs(this, critic, tokenizer, "The critic of a PPO run.", ("critic", "critic_adapter"))
    return this


class Reinforcement:
    """PPO with four models: policy and critic learn, reference and reward stay as they are.

    With adapters the reference is the policy's base, which is that plain model whenever no adapter is in place.
    """

    def __init__(
        self,
        config: Config,
        run: Run,
        policy: PreTrainedModel | Adapted,
        reference: PreTrainedModel,
        critic: PreTrainedModel | Adapted,
        reward: Any,
        chat: Chat,
        prompts: Rows[Prompt],
        watched: Sequence[Prompt],
        mix: list[list[Row]],
    ) -> None:
        updates = config.steps * config.passes * -(-config.rollouts // config.minibatch)
        self.config, self.run, self.chat = config, run, chat
        self.policy, self.reference, self.reward = policy, reference.requires_grad_(False), reward
        # Activations are recomputed in training mode only; there is no dropout that it could switch on.
        policy.train()
        critic.train()
        self.actor = Learner(policy, config.optim, updates)
        self.critic = Learner(critic, config.critic.optim, updates)
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
        self.prompts = prompts.rows
        self.order = Order(len(self.prompts), config.rollouts, config.seed)
        self.mix = mix
        self.mix_order = Order(len(mix), config.mix.batch, config.seed + 1) if mix else None
        self.watched = list(watched)[: config.watch]
        self.before: dict[str, list[Any]] = {}
        self.last_watch: dict[str, float] = {}

    def step(self, index: int) -> Mapping[str, float]:
        """One buffer of rollouts and its updates."""
        if index == 0:
            self._pretrain_critic()
        began = perf_counter()
        experience, values = self._collect([self.prompts[i] for i in self.order.at(index)], self._seed(index))
        collected = perf_counter()
        values |= self._learn(experience, index)
        if self.controller is not None:
            self.beta = self.controller.update(values["kl/mean_nats"], self.config.rollouts)
        done = perf_counter()
        return {
            **values,
            "kl/coef": self.beta,
            "time/collect_seconds": collected - began,
            "time/learn_seconds": done - collected,
            "tokens": int(experience.mask.sum()),
        }

    def evaluate(self, index: int) -> Mapping[str, float]:
        """Answer the watched prompts and compare with the starting policy's answers to them."""
        now = self._watch(seed=self.config.seed)
        self._remember_start()
        values = {"watch/reward": _mean(now["reward"]), "watch/length": _mean(now["length"])}
        if self.before:
            wins = win_rate(outcomes_from_scores(now["reward"], self.before["reward"]))
            values["watch/win_rate_by_reward"] = wins.rate
            if "gold" in now:
                gold = win_rate(outcomes_from_scores(now["gold"], self.before["gold"]))
                values |= {"watch/gold": _mean(now["gold"]), "watch/win_rate": gold.rate}
                values |= {"watch/win_rate_low": gold.low, "watch/win_rate_high": gold.high}
        self.run.samples(index, self._sample_rows(now))
        self.last_watch = values
        return values

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on; orders and seeds are functions of the step number."""
        return {
            "actor": self.actor.state_dict(),
            "critic": self.critic.state_dict(),
            "shaper": self.shaper.state_dict(),
            "beta": self.beta,
            "controller": self.controller.state_dict() if self.controller else None,
            "before": self.before,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.actor.load_state_dict(state["actor"])
        self.critic.load_state_dict(state["critic"])
        self.shaper.load_state_dict(state["shaper"])
        self.beta = float(state["beta"])
        self.before = state["before"]
        if self.controller is not None:
            self.controller.load_state_dict(state["controller"])

    def _seed(self, index: int, purpose: int = 0) -> int:
        return (self.config.seed * 1_000_003 + index) * 16 + purpose

    def _collect(self, prompts: Sequence[Prompt], seed: int) -> tuple[Experience, dict[str, float]]:
        """Sample answers, score them, and work out what each token deserved."""
        config = self.config
        texts, rollouts = answer(self.engine, self.chat, prompts, config.sampling, seed)
        reward = self.reward.score(Episodes(prompts, texts, rollouts))
        temperature = config.sampling.temperature
        logps, spread = rollout_logps(self.policy, rollouts, temperature=temperature, budget=config.budget)
        reference, _ = rollout_logps(self.reference, rollouts, temperature=temperature, budget=config.budget)
        values = rollout_values(self.critic.model, rollouts, budget=config.budget)
        mask = rollouts.response_mask
        shaped = self.shaper(reward.total, rollouts.ended)
        rewards = token_rewards(shaped, k1(logps, reference), mask, self.beta, reward.steps)
        advantages, returns = gae(rewards, values, mask, config.gamma, config.lam)
        if config.advantages == "whiten":
            advantages = masked_whiten(advantages, mask)
        facts = rollout_facts(rollouts, logps, reference, spread) | reward_facts(reward.total, shaped)
        facts |= {f"reward/part_{name}": float(part.mean()) for name, part in reward.parts.items()}
        facts |= {"text/distinct_2": distinct_n(texts, 2), "text/repetition_4": _mean([repetition(t) for t in texts])}
        facts["critic/explained_variance"] = explained_variance(values, returns, mask)
        return Experience(rollouts.tokens, rollouts.lengths, mask, logps, values, advantages, returns), facts

    def _learn(self, experience: Experience, index: int) -> dict[str, float]:
        """Passes over the buffer in shuffled minibatches; metrics are means over minibatches."""
        config, sums, updates = self.config, defaultdict[str, float](float), 0
        generator = torch.Generator().manual_seed(self._seed(index, 1))
        first: dict[str, float] = {}
        for _ in range(config.passes):
            for rows in experience.minibatches(config.minibatch, generator):
                batch = experience.select(rows)
                label = f"minibatch {updates + 1} of step {index + 1}"
                terms = policy_terms(
                    self.policy, batch, config.objective,
                    temperature=config.sampling.temperature, budget=config.budget, label=label,
                )  # fmt: skip
                values = self.actor.update(terms + self._mix_terms(label))
                if not first:
                    first = {f"first/{k}": values[k] for k in ("ratio", "approx_kl", "clip_fraction")}
                values = {_under("policy", name): value for name, value in values.items()}
                values |= self._learn_critic(batch, label)
                updates += 1
                for name, value in values.items():
                    sums[name] += value
        return {name: value / updates for name, value in sums.items()} | first

    def _learn_critic(self, batch: Experience, label: str) -> dict[str, float]:
        config = self.config
        terms = value_terms(
            self.critic.model,
            batch,
            config.objective,
            weight=config.critic.coef,
            budget=config.budget,
            label=label,
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
        config = self.config.critic
        order = Order(len(self.prompts), self.config.rollouts, self.config.seed + 2)
        losses: list[float] = []
        for index in range(config.pretrain):
            prompts = [self.prompts[i] for i in order.at(index)]
            experience, _ = self._collect(prompts, self._seed(index, 2))
            generator = torch.Generator().manual_seed(self._seed(index, 3))
            found = [
                self._learn_critic(experience.select(rows), f"critic pretraining buffer {index + 1}")[
                    "critic/value_error"
                ]
                for rows in experience.minibatches(self.config.minibatch, generator)
            ]
            losses.append(_mean(found))
            if len(losses) >= 6 and _mean(losses[-3:]) > (1 - config.settled) * _mean(losses[-6:-3]):
                break
        self.run.note(critic_pretraining_losses=losses)

    def _watch(self, seed: int) -> dict[str, list[Any]]:
        """The policy's answers to the watched prompts with their scores."""
        texts, rollouts = answer(self.engine, self.chat, self.watched, self.config.sampling, seed)
        episodes = Episodes(self.watched, texts, rollouts)
        found: dict[str, list[Any]] = {
            "text": texts,
            "reward": self.reward.score(episodes).total.tolist(),
            "length": rollouts.response_lengths.tolist(),
        }
        if all(prompt.meta.task is not None for prompt in self.watched):
            found["gold"] = GoldReward().score(episodes).total.tolist()
        return found

    def _remember_start(self) -> None:
        """The starting policy's answers, made once; the reference gives them if it is that policy."""
        if self.before or self.config.reference is not None:
            return
        engine: Any = self.engine
        self.engine = self.config.engine.bind(self.reference, self.chat.tokenizer)
        try:
            self.before = self._watch(seed=self.config.seed + 1)
        finally:
            self.engine = engine

    def _sample_rows(self, now: dict[str, list[Any]]) -> list[dict[str, Any]]:
        columns = {"answer": now["text"], "reward": now["reward"], "gold": now.get("gold")}
        if self.before:
            columns |= {"before": self.before["text"], "reward_before": self.before["reward"]}
            columns["gold_before"] = self.before.get("gold")
        rows = []
        for place, prompt in enumerate(self.watched[:12]):
            row = {name: values[place] for name, values in columns.items() if values is not None}
            rows.append({"prompt": prompt.messages[-1].content, **row})
        return rows


def _under(head: str, name: str) -> str:
    """`grad_norm` of the policy's learner becomes `policy/grad_norm`; a loss keeps its own name."""
    return name if name.startswith("loss/") else f"{head}/{name}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)


def _reference(config: Config, policy: PreTrainedModel, chat: Chat) -> PreTrainedModel:
    if config.reference is None:
        return policy if config.lora.rank else copy.deepcopy(policy)
    model, tokenizer = load_with_tokenizer(runs.find_model(config.reference), device=tensor_device(policy))
    names = ("the policy", f"the reference {config.reference}")
    check_same_vocabulary(
        chat.tokenizer, tokenizer, names, remedy="KL needs a reference with the policy's own tokenizer"
    )
    return model


def _reward(config: Config, base: PreTrainedModel, chat: Chat) -> Any:
    """The source of reward; with adapters a reward model may be one on the policy's base."""
    if config.lora.rank and isinstance(config.reward, Learned):
        return config.reward.open(chat, tensor_device(base), base)
    return config.reward.open(chat, tensor_device(base))


def _critic(config: Config, policy: PreTrainedModel | Adapted, reward: Any) -> PreTrainedModel | Adapted:
    """The critic starts as the reward model where there is one, else as the policy with a fresh head.

    One on the policy's base can start only as a reward model that is on it too.
    """
    model = reward.model if config.critic.init == "reward" and isinstance(reward, LearnedReward) else None
    if isinstance(policy, Adapted):
        return critic_on(policy, config.lora, model, seed=config.seed)
    return new_reward(policy, seed=config.seed) if model is None else new_critic(whole(model)).requires_grad_(True)


def _watched(config: Config) -> Rows[Prompt] | None:
    """The first held-out prompts, if there are any."""
    if config.prompts_dev is None and not runs.has_data(config.prompts, "prompts_dev"):
        return None
    path = runs.find_data(config.prompts_dev or config.prompts, "prompts_dev")
    return read(path, Prompt, limit=config.watch, max_bad_rows=config.max_bad_rows)


def _mix(config: Config, chat: Chat, policy: PreTrainedModel) -> list[list[Row]]:
    """Packed rows of the pretraining mix."""
    mix = config.mix
    if mix.data is None or mix.coef == 0:
        return []
    path = runs.find_data(mix.data, mix.role)
    length = min(mix.length, context_limit(policy) or mix.length)
    if mix.role == "corpus":
        documents = read(path, Document, max_bad_rows=config.max_bad_rows).rows
        rows = [row for d in documents for row in chunk(chat.document_ids(d.text), length)]
    else:
        conversations = read(path, Demonstration, max_bad_rows=config.max_bad_rows).rows
        made = (chat.conversation(d.messages) for d in conversations)
        rows = [Row(ids, mask) for ids, mask in made if len(ids) <= length]
    if not rows:
        raise BadInput(f"{path}: nothing in it fits the pretraining mix's rows of {length} tokens; raise mix.length")
    return packed(rows, length, config.seed)


def _inputs(config: Config) -> list[Input]:
    inputs = [Input("model", config.model), Input("prompts", config.prompts)]
    if isinstance(config.reward, Learned):
        inputs.append(Input("reward_model", config.reward.path))
    extra = {"reference": config.reference, "prompts_dev": config.prompts_dev, "mix": config.mix.data}
    return inputs + [Input(role, path) for role, path in extra.items() if path is not None]
