"""Heed's side: thin adapters from a job to the pieces that its stages are made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks import data, models
from benchmarks.flops import Decoder, training
from benchmarks.job import Absent, Job, Outcome, Pass, answered, rollout_lengths
from heedlm import rollout
from heedlm.models import forward
from heedlm.models.chat import Chat
from heedlm.models.load import load_with_tokenizer
from heedlm.models.scalar import new_reward
from heedlm.objectives import BradleyTerry, Dpo
from heedlm.rollout import Sampling
from heedlm.stages import prefer as stages_prefer
from heedlm.stages import reward as stages_reward
from heedlm.stages import sft as stages_sft
from heedlm.train.batching import Row
from heedlm.train.judged import in_pairs
from heedlm.train.language import LanguageTraining
from heedlm.train.learner import Learner
from heedlm.train.optim import Optim
from heedlm.train.preference import PreferenceTraining
from heedlm.train.ranking import Ranking, RankingTraining

OPTIM = Optim(lr=1e-4, schedule="constant", warmup=0.0)


def budget(job: Job, stage: Any) -> int:
    """Tokens of a microbatch: what the stage uses by default, unless the options say otherwise."""
    return int(job.options.get("budget", stage.Config.model_fields["budget"].default))


def load(job: Job) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Chat]:
    """The job's model in float32 with its tokenizer; weights stay float32 whatever precision computes."""
    model, tokenizer = load_with_tokenizer(models.folder(job.model))
    return model, tokenizer, Chat(tokenizer)


def computing(model: PreTrainedModel, precision: str) -> PreTrainedModel:
    """The model set to do its products in that precision while it trains."""
    if precision != "float32":
        if not hasattr(forward, "compute_in"):
            raise Absent("not yet built: training in bfloat16")
        forward.compute_in(model, getattr(torch, precision))
    return model


def engine(name: str, precision: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The engine of that name, computing in that precision."""
    kind = getattr(rollout, name.capitalize(), None)
    if kind is None:
        raise Absent(f"not yet built: an engine called {name}")
    asked = {"name": name}
    field = next((f for f in ("precision", "dtype", "compute") if f in kind.model_fields), None)
    if precision != "float32" and field is not None:
        asked[field] = precision
    elif precision != "float32":
        model = model.to(getattr(torch, precision))
    return kind(**asked).bind(model, tokenizer)


def newest_engine() -> str:
    """`native` where it exists, else `transformers`."""
    return "native" if hasattr(rollout, "Native") else "transformers"


def prompts_of(job: Job, chat: Chat) -> list[list[int]]:
    """The prompts of a generation job."""
    count = job.settings["prompts"]
    if job.model == "260k":
        return data.story_starts(chat, count, seed=0)
    asked = data.questions(chat, count, job.settings["longest_prompt"], toy=job.model == "toy")
    return [chat.prompt_ids(messages) for messages in asked]


def generation(job: Job) -> Outcome:
    """Answers to all prompts at temperature 1."""
    model, tokenizer, chat = load(job)
    prompts, most = prompts_of(job, chat), job.settings["max_new_tokens"]
    shape = Decoder.of(model.config)
    bound = engine(job.options.get("engine", newest_engine()), job.precision, model, tokenizer)
    bound.generate(prompts, Sampling(max_new_tokens=min(most, 32)), seed=job.seed)
    passes, asked, given = [], [], []
    for number in range(job.settings["passes"]):
        began = time.perf_counter()
        rollouts = bound.generate(prompts, Sampling(max_new_tokens=most), seed=1000 * job.seed + number + 1)
        seconds = time.perf_counter() - began
        ask, give = rollout_lengths(rollouts)
        passes.append(Pass(seconds, sum(give), shape.decoding(ask, give)))
        asked, given = asked + ask, given + give
    return Outcome(passes, answered(asked, given, most))


def sft(job: Job) -> Outcome:
    """Next-token training on packed rows."""
    model, _, chat = load(job)
    shape = Decoder.of(model.config)
    computing(model, job.precision)
    known = job.settings
    rows = data.demonstrations(chat, known["warm"] + known["rows"], known["longest"], toy=job.model == "toy")

    def trainer(part: Sequence[Row]) -> LanguageTraining:
        return LanguageTraining(
            Learner(model, OPTIM, 100), part, [], length=known["length"], batch=known["batch"],
            budget=budget(job, stages_sft), seed=job.seed,
        )  # fmt: skip

    warm = trainer(rows[: known["warm"]])
    warm.step(0)
    timed = rows[known["warm"] :]
    method = trainer(timed)
    steps = len(method.groups) // known["batch"]
    seconds, values = clocked(method.step, steps)
    tokens = sum(int(v["tokens"]) for v in values)
    forward_flops = shape.rows(data.lengths(timed), sum(sum(row.mask[1:]) for row in timed))
    flops = round(training(forward_flops) * tokens / sum(data.lengths(timed)))
    return Outcome([Pass(seconds, tokens, flops)], {"steps": steps, "row_tokens_mean": mean(data.lengths(timed))})


def reward(job: Job) -> Outcome:
    """Reward-model training on pairs."""
    policy, _, chat = load(job)
    shape = Decoder.of(policy.config)
    model = computing(new_reward(policy, seed=0), job.precision)
    known = job.settings
    pairs = data.pairs(chat, known["warm"] + known["rows"], known["longest"], toy=job.model == "toy")
    trainer = ranking_trainer(model, job, known["batch"])
    trainer([ranking(p.prompt, [p.chosen, p.rejected]) for p in pairs[: known["warm"]]]).step(0)
    timed = pairs[known["warm"] :]
    method = trainer([ranking(p.prompt, [p.chosen, p.rejected]) for p in timed])
    seconds, _ = clocked(method.step, known["rows"] // known["batch"])
    return Outcome([Pass(seconds, *pair_work(shape, timed, logits=False))], {"steps": known["rows"] // known["batch"]})


def pair(job: Job) -> Outcome:
    """Direct preference training on pairs; asking the reference, once before the steps, is timed too."""
    model, _, chat = load(job)
    shape = Decoder.of(model.config)
    computing(model, job.precision)
    known = job.settings
    pairs = data.pairs(chat, known["warm"] + known["rows"], known["longest"], toy=job.model == "toy")
    learner, held = Learner(model, OPTIM, 100), budget(job, stages_prefer)

    def trainer(part: Sequence[data.Pair]) -> PreferenceTraining:
        judged = [each for p in part if (each := in_pairs(ranking(p.prompt, [p.chosen, p.rejected])))]
        return PreferenceTraining(
            learner, judged, [], Dpo(), reference=model, batch=min(known["batch"], len(part)), budget=held,
            length=known["longest"], seed=job.seed,
        )  # fmt: skip

    trainer(pairs[: known["warm"]]).step(0)
    timed = pairs[known["warm"] :]
    steps = known["rows"] // known["batch"]
    began = time.perf_counter()
    method = trainer(timed)
    asked = time.perf_counter() - began
    seconds, _ = clocked(method.step, steps)
    tokens, flops = pair_work(shape, timed, logits=True)
    # The reference reads what the policy reads, forward only: a third of what training costs.
    detail = {"steps": steps, "reference_seconds": round(asked, 3)}
    return Outcome([Pass(asked + seconds, tokens, flops + flops // 3)], detail)


def ranking(prompt: list[int], answers: Sequence[list[int]]) -> Ranking:
    """The answers of one prompt, best first."""
    rows = [Row(prompt + ids, [False] * len(prompt) + [True] * len(ids)) for ids in answers]
    return Ranking(rows, list(range(1, len(rows) + 1)))


def ranking_trainer(model: PreTrainedModel, job: Job, batch: int) -> Callable[[Sequence[Ranking]], RankingTraining]:
    """Makes a reward-model trainer over given rankings."""
    held = budget(job, stages_reward)
    learner = Learner(model, OPTIM, 100)
    return lambda part: RankingTraining(
        learner, part, [], BradleyTerry(), batch=min(batch, len(part)), budget=held, seed=job.seed
    )


def pair_work(shape: Decoder, pairs: Sequence[data.Pair], *, logits: bool) -> tuple[int, int]:
    """Tokens of both rows of every pair, and the operations of training on them with each prompt read once."""
    tokens = sum(sum(p.lengths) for p in pairs)
    flops = 0
    for p in pairs:
        answers = [len(p.chosen), len(p.rejected)]
        flops += training(shape.shared(len(p.prompt), answers, sum(answers) if logits else 0))
    return tokens, flops


def clocked(step: Callable[[int], Any], steps: int) -> tuple[float, list[Any]]:
    """Seconds of some steps, and what they returned."""
    began = time.perf_counter()
    values = [step(index) for index in range(steps)]
    return time.perf_counter() - began, values


def mean(values: Sequence[float]) -> float:
    """Mean to one decimal."""
    return round(sum(values) / max(len(values), 1), 1)
