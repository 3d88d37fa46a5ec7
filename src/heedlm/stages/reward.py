"""Reward modelling: rankings in, a model that scores answers out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn
from transformers import PreTrainedModel

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.errors import BadInput
from heedlm.evals.reward_model import held_out_accuracy
from heedlm.models.adapters import Adapted, Lora, save_outputs, scalar_on, whole
from heedlm.models.chat import Chat
from heedlm.models.compute import Compute, find_device
from heedlm.models.forward import calibrate, context_limit
from heedlm.models.load import load_with_tokenizer, parameters
from heedlm.models.scalar import fresh_weights, new_reward
from heedlm.objectives import BradleyTerry
from heedlm.ops.moments import reference_affine
from heedlm.records import Comparison, read
from heedlm.records.splitting import split_by_prompt
from heedlm.runs import Input, Run
from heedlm.train.learner import Learner
from heedlm.train.loop import Cadence, train, use_threads
from heedlm.train.optim import Optim
from heedlm.train.ranking import Ranking, RankingTraining, ranking_scores, rankings_of
from heedlm.train.state import seed_everything


class Config(StageConfig):
    """Settings of reward modelling. The tiny values are those of docs/methods.md §9."""

    model: str = Field(description="model whose trunk the reward model starts from, usually the SFT run")
    data: str = Field(description="comparisons: a file, or a label run")
    held_out: str | None = Field(None, description="comparisons that choose the weights; by default the run's own")
    test: str | None = Field(None, description="comparisons the accuracy is reported on; by default the run's own")
    held_out_share: float = Field(0.05, ge=0, lt=1, description="share split off where no held-out file is given")
    init: Literal["model", "random"] = Field("model", description="model: keep its weights; random: start from nothing")
    objective: BradleyTerry = Field(BradleyTerry(), description="loss over the scores of a prompt's answers")
    imitation: NonNegativeFloat = Field(0.0, description="weight of the next-token loss on the best answer")
    limit: PositiveInt | None = Field(None, description="train on only the first so many prompts")
    batch: PositiveInt = Field(32, description="prompts a step")
    epochs: PositiveFloat = Field(1.0, description="passes over the comparisons; more than 1 tends to overfit")
    budget: PositiveInt = Field(4096, description="tokens a forward and backward pass may hold")
    device: Device = "auto"
    compute: Compute = Field(Compute(), description="precision of training, and memory against time")
    lora: Lora = Field(Lora(), description="train low-rank adapters beside frozen weights, and the head")
    length: PositiveInt = Field(512, description="longest prompt with answer, in tokens")
    centre: bool = Field(True, description="shift scores so that their mean over the training answers is zero")
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")
    optim: Optim = Field(Optim(lr=1e-3, warmup=0.1), description="optimiser")
    cadence: Cadence = Field(Cadence(evaluate=50), description="evaluation and checkpoints")


def run(config: Config, resume: Path | None = None) -> Run:
    """Train and return the run; its model is a one-label sequence classifier in Hugging Face layout."""
    use_threads(config.threads)
    device = find_device(config.device)
    seed_everything(config.seed)
    inputs = [Input("model", config.model), Input("comparisons", config.data)]
    inputs += [Input(role, path) for role, path in _extra(config).items()]
    comparisons = read(runs.find_data(config.data, "comparisons"), Comparison, max_bad_rows=config.max_bad_rows)
    policy, tokenizer = load_with_tokenizer(runs.find_model(config.model), device=device)
    if config.init == "random":
        policy = fresh_weights(policy, config.seed)
    chat = Chat(tokenizer)
    limit = min(config.length, context_limit(policy) or config.length)
    comparisons, rankings = rankings_of(chat, comparisons, limit)
    rankings = rankings[: config.limit]
    _, dev = _part(config, chat, "comparisons_dev", limit)
    test_rows, test = _part(config, chat, "comparisons_test", limit)
    if not dev:
        asked = [comparison.prompt for comparison in comparisons.rows][: config.limit]
        rankings, dev = split_by_prompt(rankings, asked, config.held_out_share)
    if not rankings:
        raise BadInput(f"{config.data}: no comparisons left to train on; lower held_out_share")
    config.compute.apply(policy)
    model = _scalar(config, policy)
    this = Run.resume(resume) if resume else Run.create("reward", config, inputs)
    with this:
        runs.quarantine(this, "comparisons", comparisons)
        steps = max(1, round(config.epochs * len(rankings) / config.batch))
        method = RankingTraining(
            Learner(model, config.optim, steps),
            rankings,
            dev,
            config.objective,
            batch=config.batch,
            budget=config.budget,
            seed=config.seed,
            imitation=config.imitation,
            language_model=_share_trunk(policy, whole(model)) if config.imitation else None,
        )
        train(this, method, steps=steps, cadence=config.cadence, title="reward")
        method.best.restore()
        _centre(config, model, rankings)
        this.note(parameters=parameters(whole(model)), prompts=len(rankings), steps=steps)
        if config.lora.rank:
            this.note(trained_parameters=parameters(model))
        if dev:
            this.note(held_out_loss=method.best.value, best_step=method.best.step)
        if any(comparison.pairs() for comparison in test_rows):
            scores = ranking_scores(model, test, budget=config.budget)
            this.note(accuracy=held_out_accuracy(test_rows, scores, seed=config.seed).to_dict())
        save_outputs(this, model, chat.tokenizer, "A reward model: higher is better.")
    return this


def _extra(config: Config) -> dict[str, str]:
    given = {"comparisons_dev": config.held_out, "comparisons_test": config.test}
    return {role: path for role, path in given.items() if path}


def _part(config: Config, chat: Chat, role: str, limit: int) -> tuple[Sequence[Comparison], list[Ranking]]:
    """Held-out or test rankings: from the file given for them, or from the run that the comparisons come from."""
    path = _extra(config).get(role)
    if path is None and not runs.has_data(config.data, role):
        return [], []
    return rankings_of(chat, read(runs.find_data(path or config.data, role), Comparison), limit)


def _scalar(config: Config, policy: PreTrainedModel) -> PreTrainedModel | Adapted:
    """The model to be trained: all of a copy of the policy's trunk, or adapters on that trunk itself."""
    if not config.lora.rank:
        model = new_reward(policy, seed=config.seed)
        config.compute.apply(model)
        return model
    if config.init == "random":
        raise BadInput("lora.rank: adapters learn little on random weights that stay frozen; use init=model or rank=0")
    scalar = scalar_on(policy, seed=config.seed)
    config.compute.apply(scalar)
    return config.lora.on(scalar, seed=config.seed)


def _share_trunk(policy: PreTrainedModel, model: PreTrainedModel) -> PreTrainedModel:
    """The policy's vocabulary head on the reward model's trunk, so that imitation trains the one trunk."""
    setattr(policy, policy.base_model_prefix, model.base_model)
    policy.tie_weights()
    return policy


def _centre(config: Config, model: nn.Module, rankings: list[Ranking]) -> None:
    """Shift scores to mean zero over (at most 2,000 prompts of) the training answers (Stiennon et al. 2020)."""
    if config.centre:
        flat = [score for row in ranking_scores(model, rankings[:2000], budget=config.budget) for score in row]
        _, bias = reference_affine(torch.tensor(flat), std=None)
        calibrate(model, bias=bias)
