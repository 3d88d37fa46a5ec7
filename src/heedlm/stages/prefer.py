"""Preference training: comparisons or thumbs in, a policy out, without a reward model in between."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from transformers import PreTrainedModel

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.errors import BadInput
from heedlm.evals.reward_model import held_out_accuracy
from heedlm.feedback.source import from_feedback
from heedlm.models.adapters import Lora, save_outputs
from heedlm.models.chat import Chat
from heedlm.models.compute import Compute, find_device
from heedlm.models.forward import context_limit, tensor_device
from heedlm.models.load import check_same_vocabulary, load_with_tokenizer, parameters
from heedlm.objectives import Dpo, Kto, PreferenceObjective
from heedlm.records import Comparison, Message, Rows, Thumb, read
from heedlm.records.splitting import split_by_prompt
from heedlm.runs import Input, Run
from heedlm.train.judged import Judged, in_pairs, one_by_one, thumbs_of
from heedlm.train.learner import Learner
from heedlm.train.loop import Cadence, train, use_threads
from heedlm.train.optim import Optim
from heedlm.train.preference import PreferenceTraining, answer_logps, implicit_rewards
from heedlm.train.ranking import Ranking, rankings_of
from heedlm.train.state import seed_everything


class Config(StageConfig):
    """Settings of preference training. The tiny values are those of docs/methods.md §9."""

    model: str = Field(description="policy to start from, usually the SFT run")
    data: str = Field(description="comparisons or thumbs: a file, a label run, or feedback.db#PROJECT")
    labels: Literal["comparisons", "thumbs"] = Field(
        "comparisons", description="what the data holds; thumbs up and down train kto alone"
    )
    objective: PreferenceObjective = Field(Dpo(), description="the loss: dpo, ipo, kto, orpo or simpo")
    pairs: Literal["all", "extremes"] = Field(
        "all", description="of more than two ranked answers: all pairs, or only the best against the worst"
    )
    reference: str | None = Field(
        None, description="model that log-ratios are taken to; by default the starting policy; orpo and simpo: none"
    )
    precompute: bool = Field(
        True, description="ask the reference once before training; false: in every step, for data too large to wait for"
    )
    held_out: str | None = Field(None, description="data that chooses the weights; by default the run's own")
    test: str | None = Field(None, description="comparisons the accuracy is reported on; by default the run's own")
    held_out_share: float = Field(0.05, ge=0, lt=1, description="share split off where no held-out file is given")
    limit: PositiveInt | None = Field(None, description="train on only the first so many prompts")
    batch: PositiveInt = Field(32, description="prompts a step")
    epochs: PositiveFloat = Field(1.0, description="passes over the data")
    budget: PositiveInt = Field(4096, description="tokens a forward and backward pass may hold")
    device: Device = "auto"
    compute: Compute = Field(Compute(), description="precision of training, and memory against time")
    lora: Lora = Field(Lora(), description="train low-rank adapters beside frozen weights, which are the reference")
    length: PositiveInt = Field(512, description="longest prompt with answer, in tokens")
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")
    optim: Optim = Field(Optim(lr=1e-4, warmup=0.1), description="optimiser")
    cadence: Cadence = Field(Cadence(evaluate=50), description="evaluation and checkpoints")


def run(config: Config, resume: Path | None = None) -> Run:
    """Train and return the run; its model has the lowest held-out loss of all evaluated.

    Raises:
        BadInput: A file or model is unusable, or what it holds is not what the objective learns from.
    """
    config = from_feedback(config, "data", "held_out", "test")
    use_threads(config.threads)
    device = find_device(config.device)
    seed_everything(config.seed)
    _check(config)
    rows = _read(config, config.data, config.labels)
    model, tokenizer = load_with_tokenizer(runs.find_model(config.model), device=device)
    chat = Chat(tokenizer)
    length = min(config.length, context_limit(model) or config.length)
    rows, judged, asked = _judged(config, chat, rows, length)
    dev = _held_out(config, chat, length)
    if dev is None:
        judged, dev = split_by_prompt(judged[: config.limit], asked[: config.limit], config.held_out_share)
    judged = judged[: config.limit]
    _check_labels(config, judged)
    test_rows, test = _test(config, chat, length)
    policy = config.lora.on(model, seed=config.seed) if config.lora.rank else model
    reference = _reference(config, model, chat)
    config.compute.apply(model, *([] if reference is None or reference is model else [reference]))
    this = Run.resume(resume) if resume else Run.create("prefer", config, _inputs(config))
    with this:
        runs.quarantine(this, config.labels, rows)
        steps = max(1, round(config.epochs * len(judged) / config.batch))
        method = PreferenceTraining(
            Learner(policy, config.optim, steps),
            judged,
            dev,
            config.objective,
            reference=reference,
            batch=config.batch,
            budget=config.budget,
            length=length,
            seed=config.seed,
            precompute=config.precompute,
        )
        before = None if reference is None else answer_logps(reference, test, budget=config.budget)
        train(this, method, steps=steps, cadence=config.cadence, title="prefer")
        method.best.restore()
        this.note(parameters=parameters(model), steps=steps, **_counts(judged, rows))
        if config.lora.rank:
            this.note(trained_parameters=parameters(policy))
        if dev:
            this.note(held_out_loss=method.best.value, best_step=method.best.step)
        if any(comparison.pairs() for comparison in test_rows):
            after = answer_logps(policy, test, budget=config.budget)
            rewards = implicit_rewards(config.objective, after, before or after, test)
            this.note(accuracy=held_out_accuracy(test_rows, rewards, seed=config.seed).to_dict())
        about = f"A policy trained on preferences by {config.objective.name}, without a reward model."
        save_outputs(this, policy, chat.tokenizer, about)
    return this


def _check(config: Config) -> None:
    """Refuse what does not go together."""
    if config.lora.dropout > 0:
        raise BadInput("lora.dropout: log-probs of the policy are compared with the reference's; leave it at 0")
    if config.labels == "thumbs" and not isinstance(config.objective, Kto):
        raise BadInput(f"labels=thumbs: {config.objective.name} learns from pairs; thumbs train objective.name=kto")
    if config.reference is not None and not config.objective.needs_reference:
        raise BadInput(f"reference: {config.objective.name} takes log-ratios to none; leave it out")


def _check_labels(config: Config, judged: Sequence[Judged]) -> None:
    """Refuse data that teaches nothing: no pair, or answers all marked alike."""
    if not judged:
        raise BadInput(
            f"{config.data}: no prompt with a better and a worse answer is left to train on; "
            "lower held_out_share, or add comparisons that are no ties"
            if config.labels == "comparisons"
            else f"{config.data}: no thumbs left to train on; lower held_out_share"
        )
    marks = {good for each in judged for good in each.good}
    if isinstance(config.objective, Kto) and len(marks) == 1:
        kind, other = ("up", "down") if marks.pop() else ("down", "up")
        raise BadInput(f"{config.data}: all {len(judged)} thumbs are {kind}; kto needs some that are {other} too")


def _read(config: Config, path: str, role: str) -> Rows[Any]:
    kind = Thumb if config.labels == "thumbs" else Comparison
    return read(runs.find_data(path, role), kind, max_bad_rows=config.max_bad_rows)


def _judged(
    config: Config, chat: Chat, rows: Rows[Any], length: int
) -> tuple[Rows[Any], list[Judged], list[Sequence[Message]]]:
    """The rows that fit, what can be learned from, and the prompt of each; a comparison of ties alone gives nothing."""
    if config.labels == "thumbs":
        rows, judged = thumbs_of(chat, rows, length)
        return rows, judged, [thumb.prompt for thumb in rows.rows]
    rows, rankings = rankings_of(chat, rows, length)
    single = isinstance(config.objective, Kto)
    found = [one_by_one(ranking) if single else in_pairs(ranking, config.pairs) for ranking in rankings]
    kept = [(each, row.prompt) for each, row in zip(found, rows.rows, strict=True) if each is not None]
    return rows, [each for each, _ in kept], [prompt for _, prompt in kept]


def _held_out(config: Config, chat: Chat, length: int) -> list[Judged] | None:
    """Held-out answers: from the file given for them, or the run that the data comes from; None if there are none."""
    role = f"{config.labels}_dev"
    if config.held_out is None and not runs.has_data(config.data, role):
        return None
    return _judged(config, chat, _read(config, config.held_out or config.data, role), length)[1]


def _test(config: Config, chat: Chat, length: int) -> tuple[Sequence[Comparison], list[Ranking]]:
    """Comparisons that the accuracy is reported on."""
    role = "comparisons_test"
    if config.test is None and not runs.has_data(config.data, role):
        return [], []
    return rankings_of(chat, read(runs.find_data(config.test or config.data, role), Comparison), length)


def _reference(config: Config, model: PreTrainedModel, chat: Chat) -> PreTrainedModel | None:
    """The model that stays as it is: one of its own, the base below the adapters, or the policy before training."""
    if not config.objective.needs_reference:
        return None
    if config.reference is None:
        return model if config.lora.rank or config.precompute else copy.deepcopy(model).requires_grad_(False)
    other, tokenizer = load_with_tokenizer(runs.find_model(config.reference), device=tensor_device(model))
    names = ("the policy", f"the reference {config.reference}")
    remedy = "log-ratios need a reference with the policy's own tokenizer"
    check_same_vocabulary(chat.tokenizer, tokenizer, names, remedy=remedy)
    return other.requires_grad_(False)


def _counts(judged: Sequence[Judged], rows: Rows[Any]) -> dict[str, int]:
    """How much there was to learn from."""
    pairs = sum(len(each.pairs) for each in judged)
    return {
        "prompts": len(judged),
        "rows": len(rows),
        "pairs": pairs,
        "answers": sum(len(each.good) for each in judged),
    }


def _inputs(config: Config) -> list[Input]:
    given = {"reference": config.reference, f"{config.labels}_dev": config.held_out, "comparisons_test": config.test}
    inputs = [Input("model", config.model), Input(config.labels, config.data)]
    return inputs + [Input(role, path) for role, path in given.items() if path is not None]
