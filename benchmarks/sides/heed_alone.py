"""Heed's side of the cases that it runs by itself."""

from __future__ import annotations

import functools
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import data, machine, models
from benchmarks.flops import Decoder, training
from benchmarks.job import Job, Outcome
from benchmarks.sides.heed import (
    OPTIM,
    budget,
    clocked,
    computing,
    engine,
    load,
    newest_engine,
    ranking,
    ranking_trainer,
)
from heedlm.models.chat import Chat
from heedlm.models.scalar import new_reward
from heedlm.rollout import Sampling
from heedlm.stages import sft
from heedlm.train.batching import Row
from heedlm.train.language import LanguageTraining
from heedlm.train.learner import Learner
from heedlm.train.ranking import Ranking


def shared(job: Job) -> Outcome:
    """Reward-model steps on answers with a common prompt and on as many rows with nothing in common."""
    policy, _, chat = load(job)
    model = computing(new_reward(policy, seed=0), job.precision)
    draw, known, points = random.Random(job.seed), job.settings, []
    for answers in known["answers"]:
        for prompt, answer in known["grid"]:
            count = max(1, known["tokens"] // (answers * (prompt + answer)))
            together = [_ranking(draw, chat, answers, prompt, answer, common=True) for _ in range(count)]
            apart = [_ranking(draw, chat, answers, prompt, answer, common=False) for _ in range(count)]
            train = ranking_trainer(model, job, count)
            steps = [functools.partial(train(part).step, 0) for part in (together, apart)]
            spent = in_turns(steps, known["passes"])
            ideal = (prompt + answers * answer) / (answers * (prompt + answer))
            at = {"answers": answers, "prompt": prompt, "answer": answer, "precision": job.precision}
            points.append({
                "at": at, "shared_seconds": spent[0], "separate_seconds": spent[1],
                "ratio": spent[0] / spent[1], "ideal": ideal, "above_ideal": spent[0] / spent[1] / ideal,
            })  # fmt: skip
    return Outcome(points=points)


def training_mfu(job: Job) -> Outcome:
    """Operations a second of next-token training, beside a large matrix product in this process."""
    model, _, chat = load(job)
    shape, known = Decoder.of(model.config), job.settings
    computing(model, job.precision)
    found = data.demonstrations(chat, known["rows"], known["longest"], toy=job.model == "toy")
    # The loss counts every token here: what is measured is arithmetic, not a choice of tokens.
    rows = [Row(row.ids, [True] * len(row)) for row in found]
    method = LanguageTraining(
        Learner(model, OPTIM, 100), rows, [], length=known["length"], batch=known["batch"],
        budget=budget(job, sft), seed=job.seed,
    )  # fmt: skip
    method.step(0)
    lengths = data.lengths(rows)
    a_token = training(shape.rows(lengths, sum(lengths) - len(lengths))) / sum(lengths)
    limits = [machine.matmul(known.get("matmul_seconds", 1.5))[job.precision]]
    steps = max(1, len(method.groups) // known["batch"])
    reached = []
    for _ in range(known["passes"]):
        seconds, values = clocked(method.step, steps)
        reached.append((sum(int(v["tokens"]) for v in values), seconds))
        limits.append(machine.matmul(known.get("matmul_seconds", 1.5))[job.precision])
    # The best product before, between and after: a moment of somebody else's work must not lower the limit.
    limit = max(limits)
    rates = [tokens / seconds for tokens, seconds in reached]
    rate = statistics.median(rates)
    gflops = rate * a_token / 1e9
    at = {"model": job.model, "precision": job.precision, "weights": shape.weights}
    return Outcome(points=[{
        "at": at, "tokens_per_second": rate, "gflops": gflops, "matmul_gflops": limit, "share": gflops / limit,
    }])  # fmt: skip


def growth(job: Job) -> Outcome:
    """Seconds of sampling and of training steps along each size."""
    tokenizer = load(job)[1]
    chat, known, points = Chat(tokenizer), job.settings, []
    for what, run in (("generation", _sampling), ("training", _step)):
        for against, sizes in known[what].items():
            runs = [run(job, chat, against, size) for size in sizes]
            seconds = in_turns(runs, known["passes"])
            for size, spent in zip(sizes, seconds, strict=True):
                name, amount = ("weights", _weights(job, size)) if against == "width" else (against, size)
                points.append({"at": {"what": what, "against": name, "size": amount}, "seconds": spent})
    return Outcome(points=points)


def in_turns(runs: Sequence[Callable[[], Any]], passes: int) -> list[float]:
    """Median seconds of each run: one pass to warm up, then each in its turn, `passes` times.

    A run may return the share of its work that it did; its time is divided by that.
    """
    spent: list[list[float]] = [[] for _ in runs]
    for number in range(passes + 1):
        for place, run in enumerate(runs):
            began = time.perf_counter()
            done = run()
            seconds = time.perf_counter() - began
            if number:
                spent[place].append(seconds / (done if isinstance(done, float) else 1.0))
    return [statistics.median(times) for times in spent]


def _ranking(draw: random.Random, chat: Chat, answers: int, prompt: int, answer: int, *, common: bool) -> Ranking:
    """Random ids: answers to one prompt, or rows of the same lengths that differ from their first token on."""
    top = len(chat.tokenizer)
    asked = [draw.randrange(8, top) for _ in range(prompt)]
    given = ranking(asked, [[draw.randrange(8, top) for _ in range(answer)] for _ in range(answers)])
    if common:
        return given
    rows = [Row([8 + place, *row.ids[1:]], row.mask) for place, row in enumerate(given.rows)]
    return Ranking(rows, given.ranks)


def _shape(job: Job, against: str, size: int) -> tuple[models.Shape, int | None]:
    shape = models.SHAPES[job.model]
    if against == "width":
        shape = models.Shape(size, shape.layers, shape.heads, size * shape.hidden // shape.width)
    return shape, size if against == "vocabulary" else None


def _weights(job: Job, width: int) -> int:
    shape = _shape(job, "width", width)[0]
    return shape.layers * (4 * width * width + 3 * width * shape.hidden)


def _sampling(job: Job, chat: Chat, against: str, size: int) -> Callable[[], float]:
    base = {
        **job.settings["base"],
        "answers": 1,
        **({against: size} if against in ("prompts", "answer", "answers") else {}),
    }
    shape, vocabulary = _shape(job, against, size)
    model = models.llama(shape, chat.tokenizer, vocabulary)
    bound = engine(job.options.get("engine", newest_engine()), job.precision, model, chat.tokenizer)
    draw = random.Random(0)
    count = base["prompts"] // (4 if against == "answers" else 1) or 1
    top = min(len(chat.tokenizer), model.config.vocab_size)
    asked = [[draw.randrange(8, top) for _ in range(base["prompt"])] for _ in range(count)]
    prompts = [prompt for prompt in asked for _ in range(base["answers"])]
    wanted = len(prompts) * base["answer"]

    def run() -> float:
        rollouts = bound.generate(prompts, Sampling(max_new_tokens=base["answer"]), seed=0)
        return float(rollouts.response_lengths.sum()) / wanted

    return run


def _step(job: Job, chat: Chat, against: str, size: int) -> Callable[[], Any]:
    """A step of next-token training; against `answers`, one of a reward model on answers to common prompts."""
    base = {**job.settings["base"], **({against: size} if against in ("rows", "length") else {})}
    if against == "length":
        base["rows"] = max(1, base["rows"] * job.settings["base"]["length"] // size)
    shape, vocabulary = _shape(job, against, size)
    model = models.llama(shape, chat.tokenizer, vocabulary)
    draw = random.Random(0)
    if against == "answers":
        count = max(1, base["rows"] // 2)
        scorer = new_reward(model, seed=0)
        rows = [
            _ranking(draw, chat, size, base["length"], max(1, base["length"] // 4), common=True) for _ in range(count)
        ]
        step = ranking_trainer(scorer, job, count)(rows).step
    else:
        top = min(len(chat.tokenizer), model.config.vocab_size)
        ids = [[draw.randrange(8, top) for _ in range(base["length"])] for _ in range(base["rows"])]
        step = LanguageTraining(
            Learner(model, OPTIM, 100), [Row(i, [True] * len(i)) for i in ids], [], length=base["length"],
            batch=len(ids), budget=budget(job, sft), seed=0,
        ).step  # fmt: skip
    return lambda: step(0)
