"""Models, data and guard put together, and the run around them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from heedlm import runs
from heedlm.errors import BadInput, Collapsed
from heedlm.models.adapters import Adapted, critic_on, save_outputs, whole
from heedlm.models.chat import Chat
from heedlm.models.compute import find_device
from heedlm.models.forward import context_limit, tensor_device
from heedlm.models.load import check_same_vocabulary, load_with_tokenizer, parameters
from heedlm.models.scalar import new_critic, new_reward
from heedlm.monitor.detector import Detector
from heedlm.monitor.guard import Guard
from heedlm.objectives import OnlineDpo, Ppo
from heedlm.records import Demonstration, Document, Prompt, Rows, read
from heedlm.rewards import Judged, ScalarSource, files_of, is_learned
from heedlm.rollout.answering import fitting
from heedlm.runs import Input, Run
from heedlm.stages.rl import groups
from heedlm.stages.rl.config import Config
from heedlm.stages.rl.learning import Reinforcement
from heedlm.stages.rl.watching import Watch
from heedlm.train.batching import Row
from heedlm.train.language import chunk, packed
from heedlm.train.loop import restore_weights, train, use_threads
from heedlm.train.state import seed_everything

_log = logging.getLogger(__name__)


def run(config: Config, resume: Path | None = None) -> Run:
    """Train the policy and return the run.

    Raises:
        BadInput: A file or model is unusable, or the sampling is one whose log-probs cannot be trained on.
        Collapsed: The policy collapsed and the guard gave up; the run's model is that of the checkpoint it would
            have gone back to.
        NotFinite: A loss, gradient, reward or weight became NaN or infinite.
    """
    use_threads(config.threads)
    device = find_device(config.device)
    seed_everything(config.seed)
    _check(config)
    prompts = read(runs.find_data(config.prompts, "prompts"), Prompt, max_bad_rows=config.max_bad_rows)
    model, tokenizer = load_with_tokenizer(runs.find_model(config.model), device=device)
    chat = Chat(tokenizer)
    policy = config.lora.on(model, seed=config.seed) if config.lora.rank else model
    reference = _reference(config, model, chat)
    reward = _reward(config, model, chat)
    critic = _critic(config, policy, reward) if isinstance(config.objective, Ppo) else None
    # Not the reward model: what is maximised stays exact.
    config.compute.apply(model, reference, *([] if critic is None else [whole(critic)]))
    prompts = fitting(prompts, chat, model, config.sampling.max_new_tokens)
    watched = _watched(config)
    if watched is not None:
        watched = fitting(watched, chat, model, config.sampling.max_new_tokens)
    _show_cost(config, prompts.rows)
    mix = _mix(config, chat, model)
    judge = config.watch_by.open(chat, device) if config.watch_by is not None else None
    this = Run.resume(resume) if resume else Run.create("ppo", config, _inputs(config))
    with this:
        runs.quarantine(this, "prompts", prompts)
        if watched is not None:
            runs.quarantine(this, "prompts_dev", watched)
        shown = (prompts.rows if watched is None else watched.rows)[: config.watch]
        watch = Watch(shown, reward, judge, chat, config.sampling, config.seed)
        method = Reinforcement(config, this, policy, reference, critic, reward, chat, prompts.rows, watch, mix)
        # Over the policy it starts from, a policy wins half at the start.
        start = 0.5 if config.reference is None else None
        detector = Detector(config.monitor, config.sampling.max_new_tokens, config.kl.target, start)
        guard = Guard(this, detector, config.on_collapse, config.rollback)
        collapse: Collapsed | None = None
        try:
            train(this, method, steps=config.steps, cadence=config.cadence, title="ppo", overseer=guard)
            kept = guard.best if config.keep == "best" and watch.last.get("watch/drop_low", 0.0) > 0 else None
        except Collapsed as error:
            collapse, kept = error, guard.target()
        if kept is not None:
            restore_weights(this, method, kept)
            this.note(kept_step=kept)
        _finish(this, method, model, tokenizer)
        if collapse is not None:
            raise collapse
    return this


def _finish(this: Run, method: Reinforcement, model: PreTrainedModel, tokenizer: Any) -> None:
    """Facts and outputs of a run."""
    policy: Any = method.policy
    critic: Any = method.critic.model if method.critic is not None else None
    this.note(parameters=parameters(model), **{f"final/{k}": v for k, v in method.watch.last.items()})
    if isinstance(policy, Adapted):
        this.note(trained_parameters=parameters(policy))
        if critic is not None:
            this.note(trained_parameters_critic=parameters(critic))
        others = {"reference": method.reference, "critic": critic, "reward": getattr(method.reward, "model", None)}
        this.note(on_the_policys_base=[n for n, other in others.items() if other and policy.shares_base(other)])
    method.settle()
    by = method.config.objective.name
    save_outputs(this, policy, tokenizer, f"A policy trained against a reward (objective {by}).")
    if critic is not None:
        save_outputs(this, critic, tokenizer, "The critic of a PPO run.", ("critic", "critic_adapter"))


def _check(config: Config) -> None:
    """Refuse what cannot be trained on, and warn of what does not go together (docs/methods.md §4.2)."""
    groups.check(config)
    if config.lora.dropout > 0:
        raise BadInput("lora.dropout: PPO compares log-probs of one policy before and during an update; leave it at 0")
    if config.sampling.temperature == 0 or config.sampling.top_p < 1 or config.sampling.top_k > 0:
        raise BadInput(
            "sampling: training needs log-probs of the whole distribution it samples from; use a temperature above 0 "
            "and leave top_p=1 and top_k=0"
        )
    shaped = config.advantages.whiten or config.advantages.clip is not None
    if shaped and isinstance(config.objective, Ppo) and config.objective.value_clip is not None:
        _log.warning(
            "advantages are whitened or clipped and the value loss is clipped too: the paper found that the two "
            "conflict; set objective.value_clip=none or leave advantages alone"
        )
    held = config.kl.coef > 0 or isinstance(config.objective, OnlineDpo)
    if not held and config.on_collapse == "off" and is_learned(config.reward):
        _log.warning("kl.coef=0 with guard=off: nothing holds the policy, and nothing is done when it collapses")


def _show_cost(config: Config, prompts: Sequence[Prompt]) -> None:
    """Have a judge whose ratings cost money say how much at most, before the first answer is sampled."""
    objective, every = config.objective, config.cadence.evaluate
    more = config.critic.pretrain if isinstance(objective, Ppo) else config.steps * objective.resample
    looks = 2 + (config.steps // every if every else 0)  # the starting policy's answers are one of them
    for source, rated in ((config.reward, (config.steps + more) * config.rollouts), (config.watch_by, 0)):
        if isinstance(source, Judged):
            source.prepare(prompts, rated + looks * config.watch, config.sampling.max_new_tokens)


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
    if config.lora.rank and isinstance(config.reward, ScalarSource):
        return config.reward.open(chat, tensor_device(base), base)
    return config.reward.open(chat, tensor_device(base))


def _critic(config: Config, policy: PreTrainedModel | Adapted, reward: Any) -> PreTrainedModel | Adapted:
    """The critic starts as the reward model where there is one, else as the policy with a fresh head.

    One on the policy's base can start only as a reward model that is on it too.
    """
    model = reward.model if config.critic.init == "reward" and isinstance(config.reward, ScalarSource) else None
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
    inputs += [Input(role, path) for role, path in files_of(config.reward).items()]
    judges = list(files_of(config.watch_by).values())
    inputs += [Input("judge" if len(judges) == 1 else f"judge_{n}", path) for n, path in enumerate(judges, 1)]
    extra = {"reference": config.reference, "prompts_dev": config.prompts_dev, "mix": config.mix.data}
    return inputs + [Input(role, path) for role, path in extra.items() if path is not None]
