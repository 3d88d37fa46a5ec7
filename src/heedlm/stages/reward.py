"""Reward modelling: rankings (or answers in rated steps) in, a model that scores answers (or steps) out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn
from transformers import PreTrainedModel

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.errors import BadInput
from heedlm.evals.gates import Gates, advice
from heedlm.evals.reward_model import RewardAccuracy, held_out_accuracy
from heedlm.feedback.source import from_feedback
from heedlm.models.adapters import Adapted, Lora, save_outputs, scalar_on, whole
from heedlm.models.chat import Chat
from heedlm.models.compute import Compute, find_device
from heedlm.models.forward import calibrate, calibration, context_limit
from heedlm.models.load import load_with_tokenizer, parameters
from heedlm.models.scalar import fresh_weights, new_reward
from heedlm.objectives import BradleyTerry, Process
from heedlm.ops.moments import reference_affine
from heedlm.records import Answers, Comparison, Criterion, Row, Rows, Steps, read
from heedlm.records.splitting import split_by_prompt
from heedlm.runs import Input, Run
from heedlm.train.learner import Learner
from heedlm.train.loop import Best, Cadence, Trainable, train, use_threads
from heedlm.train.optim import Optim
from heedlm.train.ranking import Ranking, RankingTraining, answer_rows, ranking_scores, rankings_of
from heedlm.train.state import seed_everything
from heedlm.train.steps import Stepped, StepTraining, say_reads_steps, step_scores, stepped_of

R = TypeVar("R", bound=Row)
ScalarModel = PreTrainedModel | Adapted
Objective = Annotated[BradleyTerry | Process, Field(discriminator="name")]


class Config(StageConfig):
    """Settings of reward modelling. The tiny values are those of docs/methods.md §9."""

    model: str = Field(description="model whose trunk the reward model starts from, usually the SFT run")
    data: str = Field(
        description="comparisons: a file, a label run, or feedback.db#PROJECT; with objective.name=process in steps"
    )
    criterion: Criterion | None = Field(None, description="use only comparisons by this criterion; all if not given")
    held_out: str | None = Field(None, description="comparisons that choose the weights; by default the run's own")
    test: str | None = Field(None, description="comparisons the accuracy is reported on; by default the run's own")
    policy_test: str | None = Field(
        None, description="comparisons of answers by the policy that is to be trained, for the gates"
    )
    held_out_share: float = Field(0.05, ge=0, lt=1, description="share split off where no held-out file is given")
    init: Literal["model", "random"] = Field("model", description="model: keep its weights; random: start from nothing")
    objective: Objective = Field(BradleyTerry(), description="loss over the scores of a prompt's answers, or of steps")
    imitation: NonNegativeFloat = Field(0.0, description="weight of the next-token loss on the best answer")
    limit: PositiveInt | None = Field(None, description="train on only the first so many prompts")
    batch: PositiveInt = Field(32, description="prompts a step")
    epochs: PositiveFloat = Field(1.0, description="passes over the comparisons; more than 1 tends to overfit")
    budget: PositiveInt = Field(4096, description="tokens a forward and backward pass may hold")
    device: Device = "auto"
    compute: Compute = Field(Compute(), description="precision of training, and memory against time")
    lora: Lora = Field(Lora(), description="train low-rank adapters beside frozen weights, and the head")
    length: PositiveInt = Field(512, description="longest prompt with answer, in tokens")
    centre: bool = Field(True, description="shift scores so that their mean over the reference answers is zero")
    scale: bool = Field(
        False, description="also scale them to a standard deviation of 1 there, before training and after it"
    )
    reference: str | None = Field(
        None, description="reference answers: demonstrations or a sample run; by default the training answers"
    )
    gates: Gates = Field(Gates(), description="what it must reach before PPO is advised")
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")
    optim: Optim = Field(Optim(lr=1e-3, warmup=0.1), description="optimiser")
    cadence: Cadence = Field(Cadence(evaluate=50), description="evaluation and checkpoints")


def run(config: Config, resume: Path | None = None) -> Run:
    """Train and return the run; its model is a one-label sequence classifier in Hugging Face layout."""
    config = from_feedback(config, "data", "held_out", "test", "policy_test")
    use_threads(config.threads)
    device = find_device(config.device)
    seed_everything(config.seed)
    inputs = [Input("model", config.model), Input("comparisons", config.data)]
    inputs += [Input(role, path) for role, path in _extra(config).items()]
    policy, tokenizer = load_with_tokenizer(runs.find_model(config.model), device=device)
    if config.init == "random":
        policy = fresh_weights(policy, config.seed)
    chat = Chat(tokenizer)
    limit = min(config.length, context_limit(policy) or config.length)
    kind = _OfSteps if isinstance(config.objective, Process) else _OfRankings
    material: _Material = kind(config, chat, limit)
    reference = _reference(config, chat, limit)
    config.compute.apply(policy)
    model = _scalar(config, policy)
    this = Run.resume(resume) if resume else Run.create("reward", config, inputs)
    with this:
        runs.quarantine(this, "comparisons", material.rows)
        steps = max(1, round(config.epochs * material.size / config.batch))
        if config.scale:
            _normalise(config, model, reference or material.answers)
        method = material.training(model, steps, policy)
        train(this, method, steps=steps, cadence=config.cadence, title="reward")
        method.best.restore()
        if config.centre or config.scale:
            _normalise(config, model, reference or material.answers)
        gain, bias = calibration(model)
        this.note(parameters=parameters(whole(model)), prompts=material.size, steps=steps, gain=gain, bias=bias)
        if config.lora.rank:
            this.note(trained_parameters=parameters(model))
        if method.held_out:
            this.note(held_out_loss=method.best.value, best_step=method.best.step)
        this.note(**material.report(model))
        save_outputs(this, model, chat.tokenizer, "A reward model: higher is better.")
    return this


class _Training(Trainable, Protocol):
    """A method that keeps its best weights."""

    best: Best
    held_out: Sequence[Any]


class _Material(Protocol):
    """What there is to learn from and to measure on."""

    rows: Rows[Any]
    size: int
    answers: list[Ranking]

    def training(self, model: ScalarModel, steps: int, policy: PreTrainedModel) -> _Training:
        """The method."""

    def report(self, model: nn.Module) -> Mapping[str, Any]:
        """Measurements of the trained model."""


class _OfRankings:
    """Comparisons: for training, held out, for the test, and of the policy's own answers."""

    def __init__(self, config: Config, chat: Chat, limit: int) -> None:
        self.config, self.chat, self.limit = config, chat, limit
        rows = read(runs.find_data(config.data, "comparisons"), Comparison, max_bad_rows=config.max_bad_rows)
        self.rows, rankings = rankings_of(chat, _by(config.criterion, rows), limit)
        rankings = rankings[: config.limit]
        _, dev = self._part("comparisons_dev")
        self.test = self._part("comparisons_test")
        self.policy_test = self._part("comparisons_policy")
        if not dev:
            asked = [comparison.prompt for comparison in self.rows.rows][: config.limit]
            rankings, dev = split_by_prompt(rankings, asked, config.held_out_share)
        if not rankings:
            raise BadInput(f"{config.data}: no comparisons left to train on; lower held_out_share")
        self.answers, self.dev, self.size = rankings, dev, len(rankings)

    def training(self, model: ScalarModel, steps: int, policy: PreTrainedModel) -> RankingTraining:
        """The method; the policy's vocabulary head is for imitation."""
        config, objective = self.config, self.config.objective
        assert isinstance(objective, BradleyTerry)
        return RankingTraining(
            Learner(model, config.optim, steps),
            self.answers,
            self.dev,
            objective,
            batch=config.batch,
            budget=config.budget,
            seed=config.seed,
            imitation=config.imitation,
            language_model=_share_trunk(policy, whole(model)) if config.imitation else None,
        )

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Accuracy on the test and on the policy's answers, and the advice that follows."""
        test, policy = (self._accuracy(model, part) for part in (self.test, self.policy_test))
        facts: dict[str, Any] = {} if policy is None else {"accuracy_policy": policy.to_dict()}
        if test is not None:
            found = advice(test, self.config.gates, None if policy is None else policy.accuracy)
            facts |= {"accuracy": test.to_dict(), "advice": found.to_dict()}
        return facts

    def _accuracy(self, model: nn.Module, part: tuple[Sequence[Comparison], list[Ranking]]) -> RewardAccuracy | None:
        if not any(comparison.pairs() for comparison in part[0]):
            return None
        scores = ranking_scores(model, part[1], budget=self.config.budget)
        return held_out_accuracy(part[0], scores, seed=self.config.seed)

    def _part(self, role: str) -> tuple[Sequence[Comparison], list[Ranking]]:
        """Rankings from the file given for a role, or from the run that the comparisons come from."""
        rows = _rows(self.config, role, Comparison)
        return ([], []) if rows is None else rankings_of(self.chat, _by(self.config.criterion, rows), self.limit)


class _OfSteps:
    """Answers in rated steps: for training, held out, and for the test."""

    def __init__(self, config: Config, chat: Chat, limit: int) -> None:
        if config.imitation or config.scale or config.reference or config.criterion:
            raise BadInput("objective.name=process: imitation, scale, reference and criterion are for comparisons only")
        self.config = config
        rows = read(runs.find_data(config.data, "steps"), Steps, max_bad_rows=config.max_bad_rows)
        self.rows, found = stepped_of(chat, rows, limit)
        held_out, test = (_rows(config, role, Steps) for role in ("steps_dev", "steps_test"))
        dev = [] if held_out is None else stepped_of(chat, held_out, limit)[1]
        self.test: list[Stepped] = [] if test is None else stepped_of(chat, test, limit)[1]
        found = found[: config.limit]
        if not dev:
            found, dev = split_by_prompt(
                found, [row.prompt for row in self.rows][: config.limit], config.held_out_share
            )
        if not found:
            raise BadInput(f"{config.data}: no answers left to train on; lower held_out_share")
        self.found, self.dev, self.size = found, dev, len(found)
        self.answers: list[Ranking] = []  # scores of steps are log-odds, so nothing shifts them

    def training(self, model: ScalarModel, steps: int, policy: PreTrainedModel) -> StepTraining:
        """The method."""
        config, objective = self.config, self.config.objective
        assert isinstance(objective, Process)
        numbers = {"batch": config.batch, "budget": config.budget, "seed": config.seed}
        say_reads_steps(model)
        return StepTraining(Learner(model, config.optim, steps), self.found, self.dev, objective, **numbers)

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Share of test steps on the right side of ½, and of answers in which all are."""
        objective = self.config.objective
        assert isinstance(objective, Process)
        if not self.test:
            return {}
        wanted = [objective.targets(each.labels) for each in self.test]
        ends = [each.ends[: len(row)] for each, row in zip(self.test, wanted, strict=True)]
        scores = step_scores(model, [each.row.ids for each in self.test], ends, budget=self.config.budget)
        right = [
            [(score > 0) == (target > 0.5) for score, target in zip(*row, strict=True)]
            for row in zip(scores, wanted, strict=True)
        ]
        flat = [one for row in right for one in row]
        facts = {"steps": len(flat), "accuracy": sum(flat) / len(flat)}
        return {"step_accuracy": facts | {"answers": len(right), "whole_answers": sum(map(all, right)) / len(right)}}


def _extra(config: Config) -> dict[str, str]:
    steps = "steps" if isinstance(config.objective, Process) else "comparisons"
    given = {f"{steps}_dev": config.held_out, f"{steps}_test": config.test, "comparisons_policy": config.policy_test}
    return {role: path for role, path in (given | {"reference": config.reference}).items() if path}


def _rows(config: Config, role: str, kind: type[R]) -> Rows[R] | None:
    """Rows of the file given for a role, or of the run that the training data come from; None if there are none."""
    path = _extra(config).get(role)
    if path is None and not runs.has_data(config.data, role):
        return None
    return read(runs.find_data(path or config.data, role), kind)


def _by(criterion: Criterion | None, rows: Rows[Comparison]) -> Rows[Comparison]:
    """The comparisons that were made by a criterion."""
    if criterion is None:
        return rows
    kept = [place for place, row in enumerate(rows) if row.criterion == criterion]
    if not kept:
        known = ", ".join(sorted({row.criterion for row in rows}))
        raise BadInput(f"{rows.path}: no comparison by criterion={criterion}, only by {known}")
    return replace(rows, rows=[rows[place] for place in kept], lines=[rows.lines[place] for place in kept])


def _reference(config: Config, chat: Chat, limit: int) -> list[Ranking]:
    """Answers over which scores are normalised, if others than the training answers are asked for."""
    if config.reference is None:
        return []
    role = "answers" if runs.has_data(config.reference, "answers") else "demonstrations"
    made: list[Ranking] = []

    def too_long(row: Answers) -> str | None:
        try:
            rows = answer_rows(chat, row.prompt, [answer.text for answer in row.answers], limit)
        except BadInput as error:
            return str(error)
        made.append(Ranking(rows, [1] * len(rows)))
        return None

    read(runs.find_data(config.reference, role), Answers, max_bad_rows=config.max_bad_rows).filter(too_long)
    return made


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


def _normalise(config: Config, model: nn.Module, answers: list[Ranking]) -> None:
    """Shift scores to mean zero over (at most 2,000 prompts' answers of) the reference, and scale them if asked to.

    Source: the shift, Stiennon et al. 2020; both, before and after training, Ziegler et al. 2019, §2.2.
    """
    if not answers:
        return
    flat = [score for row in ranking_scores(model, answers[:2000], budget=config.budget) for score in row]
    gain, bias = reference_affine(torch.tensor(flat), std=1.0 if config.scale else None)
    old_gain, old_bias = calibration(model)
    calibrate(model, gain=gain * old_gain, bias=gain * old_bias + bias)
