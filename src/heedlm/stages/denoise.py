"""Denoising: many reward models judge comparisons they never saw, and what they doubt is mended."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from transformers import PreTrainedModel

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.errors import BadInput
from heedlm.evals.strength import Strength, by_strength, describe, strength
from heedlm.models.chat import Chat
from heedlm.models.compute import Compute, find_device
from heedlm.models.forward import context_limit
from heedlm.models.load import load_with_tokenizer
from heedlm.models.scalar import new_reward
from heedlm.objectives import BradleyTerry
from heedlm.progress import progress
from heedlm.records import Comparison, read, write
from heedlm.runs import Input, Run
from heedlm.runs.files import write_json, write_whole
from heedlm.train.learner import Learner
from heedlm.train.loop import use_threads
from heedlm.train.optim import Optim
from heedlm.train.ranking import Ranking, RankingTraining, pairwise_accuracy, ranking_scores, rankings_of
from heedlm.train.state import seed_everything

_SEED = 1009  # what one reward model's seed is apart from the next one's


class Config(StageConfig):
    """Settings of denoising (Wang et al. 2024, Secrets of RLHF II; docs/methods.md §3.5)."""

    model: str = Field(description="model whose trunk the reward models start from, usually the SFT run")
    data: str = Field(description="comparisons: a file, or a label run")
    models: PositiveInt = Field(5, description="reward models that score each pair without having seen its prompt (M)")
    folds: int = Field(2, ge=2, description="parts the prompts are dealt into; each is scored by a model of the others")
    groups: PositiveInt = Field(10, description="groups of like strength that are reported")
    remedies: tuple[Literal["flip", "smooth", "margin"], ...] = Field(
        ("smooth",),
        description="flip: turn the weakest pairs round; smooth: call those below 0 uncertain; margin: ask for û",
    )
    flip: float = Field(0.1, ge=0, le=1, description="flip: share of pairs, the weakest, if their û is below 0")
    smoothing: float = Field(0.4, ge=0, lt=0.5, description="smooth: chance that a pair with û below 0 is wrong")
    objective: BradleyTerry = Field(BradleyTerry(), description="loss over the scores of a prompt's answers")
    limit: PositiveInt | None = Field(None, description="use only the first so many prompts")
    batch: PositiveInt = Field(32, description="prompts a step")
    epochs: PositiveFloat = Field(1.0, description="passes of each reward model over its part")
    budget: PositiveInt = Field(4096, description="tokens a forward and backward pass may hold")
    device: Device = "auto"
    compute: Compute = Field(Compute(), description="precision of training, and memory against time")
    length: PositiveInt = Field(512, description="longest prompt with answer, in tokens")
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")
    optim: Optim = Field(Optim(lr=1e-3, warmup=0.1), description="optimiser")


@dataclass(frozen=True)
class Pair:
    """One preference: places of the better and the worse answer in comparison number `row`, and its strength."""

    row: int
    better: int
    worse: int
    strength: Strength


def run(config: Config, resume: Path | None = None) -> Run:
    """Score, mend and return the run; its `comparisons` are pairs, its `strengths` say what was found of each.

    Raises:
        BadInput: A file is unusable, or it holds too few prompts to deal into folds or groups.
        Interrupted: A signal asked to stop; the reward models that are done are not trained again.
    """
    use_threads(config.threads)
    device = find_device(config.device)
    seed_everything(config.seed)
    rows = read(runs.find_data(config.data, "comparisons"), Comparison, max_bad_rows=config.max_bad_rows,
                limit=config.limit)  # fmt: skip
    policy, tokenizer = load_with_tokenizer(runs.find_model(config.model), device=device)
    limit = min(config.length, context_limit(policy) or config.length)
    rows, rankings = rankings_of(Chat(tokenizer), rows, limit)
    prompts = [json.dumps([message.model_dump() for message in row.prompt]) for row in rows]
    if len(set(prompts)) < config.folds:
        raise BadInput(
            f"{config.data}: {len(set(prompts))} prompts for folds={config.folds}; give more, or fewer folds"
        )
    config.compute.apply(policy)
    inputs = [Input("model", config.model), Input("comparisons", config.data)]
    this = Run.resume(resume) if resume else Run.create("denoise", config, inputs)
    with this:
        runs.quarantine(this, "comparisons", rows)
        scores = _score(this, config, policy, rankings, prompts)
        pairs = list(_pairs(rows.rows, scores))
        if len(pairs) < config.groups:
            raise BadInput(f"{config.data}: {len(pairs)} preferences for groups={config.groups}; give more")
        strengths = [pair.strength for pair in pairs]
        groups = by_strength(strengths, config.groups)
        weakest = {place for (place,) in by_strength(strengths, len(pairs))[: round(config.flip * len(pairs))]}
        _write(
            this, config, rows.rows, pairs, {p: number for number, group in enumerate(groups) for p in group}, weakest
        )
        _hand_on(this, config.data)
        this.note(
            pairs=len(pairs),
            reward_models=config.models * config.folds,
            negative=sum(each.mean < 0 for each in strengths) / len(pairs),
            groups=[describe(strengths, group).to_dict() for group in groups],
        )
    return this


def _score(
    this: Run, config: Config, policy: PreTrainedModel, rankings: Sequence[Ranking], prompts: Sequence[str]
) -> list[list[list[float]]]:
    """For each of the M models the scores of every answer, by a model that was not trained on its prompt."""
    folder = this.path / "scores"
    folder.mkdir(exist_ok=True)
    found: list[list[list[float]]] = []
    total = config.models * config.folds
    with progress("denoise", total=total, unit="reward models") as bar:
        for number in range(config.models):
            dealt = _deal(prompts, config.folds, f"{config.seed} {number}")
            scores: list[list[float]] = [[] for _ in rankings]
            for fold in range(config.folds):
                file, member = folder / f"{number}-{fold}.json", number * config.folds + fold
                out = [place for place, part in enumerate(dealt) if part == fold]
                if not file.exists():
                    if runs.stop_requested():
                        raise runs.interrupted(this, f"after reward model {member} of {total}")
                    rest = [rankings[place] for place, part in enumerate(dealt) if part != fold]
                    values = _member(this, config, policy, rest, [rankings[place] for place in out], member)
                    write_json(file, values)
                for place, row in zip(out, json.loads(file.read_text()), strict=True):
                    scores[place] = row
                bar.advance(1)
            found.append(scores)
    return found


def _deal(prompts: Sequence[str], folds: int, seed: str) -> list[int]:
    """A fold for each comparison; comparisons of one prompt share it."""
    asked = sorted(set(prompts))
    random.Random(seed).shuffle(asked)
    fold_of = {prompt: place % folds for place, prompt in enumerate(asked)}
    return [fold_of[prompt] for prompt in prompts]


def _member(
    this: Run,
    config: Config,
    policy: PreTrainedModel,
    training: Sequence[Ranking],
    out: Sequence[Ranking],
    number: int,
) -> list[list[float]]:
    """Train one reward model and let it score what it did not see."""
    seed = (config.seed + _SEED * (number + 1)) % 2**32
    model = new_reward(policy, seed=seed)
    config.compute.apply(model)
    steps = max(1, round(config.epochs * len(training) / config.batch))
    method = RankingTraining(
        Learner(model, config.optim, steps),
        training,
        [],
        config.objective,
        batch=config.batch,
        budget=config.budget,
        seed=seed,
    )
    values: dict[str, float] = {}
    for index in range(steps):
        values = dict(method.step(index))
    scores = ranking_scores(model, out, budget=config.budget)
    right, pairs = map(sum, zip(*pairwise_accuracy(scores, out), strict=True))
    this.metrics(number + 1, {"loss/train": values["loss/train"], "accuracy/held_out": right / max(pairs, 1)})
    return scores


def _pairs(rows: Sequence[Comparison], scores: Sequence[Sequence[Sequence[float]]]) -> Iterator[Pair]:
    """Every preference with its strength."""
    for number, row in enumerate(rows):
        for better, worse in row.pairs():
            yield Pair(number, better, worse, strength([each[number][better] - each[number][worse] for each in scores]))


def _write(
    this: Run,
    config: Config,
    rows: Sequence[Comparison],
    pairs: Sequence[Pair],
    group_of: dict[int, int],
    weakest: set[int],
) -> None:
    """The mended comparisons (ties as they were), and what was found of each preference."""
    made: list[Comparison] = []
    lines: list[str] = []
    counts: dict[str, int] = {"flip": 0, "smooth": 0, "margin": 0}
    for place, pair in enumerate(pairs):
        row, done = mended(rows[pair.row], pair, config, weak=place in weakest)
        made.append(row)
        for remedy in done:
            counts[remedy] += 1
        facts = {"id": row.id, "mean": pair.strength.mean, "std": pair.strength.std, "group": group_of[place]}
        lines.append(json.dumps(facts | {"remedies": done}, ensure_ascii=False))
    made += [_only(row, i, j, (1, 1)) for row in rows for i, j in row.ties()]
    output = this.path / "comparisons.jsonl"
    write(output, made)
    this.add_output("comparisons", output, rows=len(made))
    write_whole(this.path / "strengths.jsonl", "\n".join(lines) + "\n")
    this.add_output("strengths", this.path / "strengths.jsonl", rows=len(lines))
    this.note(remedies=counts)


def mended(row: Comparison, pair: Pair, config: Config, *, weak: bool) -> tuple[Comparison, list[str]]:
    """A preference as a comparison of its own, with the remedies that it needed.

    Args:
        row: The comparison it comes from.
        pair: Its answers and strength.
        config: Which remedies, and how much.
        weak: Whether it is among the weakest, which may be turned round.
    """
    mean, done = pair.strength.mean, []
    ranks, changes = (1, 2), dict[str, Any]()
    if "flip" in config.remedies and weak and mean < 0:
        ranks, mean = (2, 1), -mean
        done.append("flip")
    elif "smooth" in config.remedies and mean < 0:
        changes["certainty"] = 1 - config.smoothing
        done.append("smooth")
    if "margin" in config.remedies:
        changes["margin"] = mean
        done.append("margin")
    return _only(row, pair.better, pair.worse, ranks).model_copy(update=changes), done


def _only(row: Comparison, first: int, second: int, ranks: tuple[int, int]) -> Comparison:
    """Two answers of a comparison as one of their own; a comparison of two stays as it is, its order shown too."""
    name = row.id if len(row.answers) == 2 else f"{row.id}-{first}-{second}"
    if len(row.answers) == 2:
        by_place = {first: ranks[0], second: ranks[1]}
        return row.model_copy(update={"ranks": (by_place[0], by_place[1])})
    answers = (row.answers[first], row.answers[second])
    return row.model_copy(update={"id": name, "answers": answers, "ranks": ranks, "order_shown": None})


def _hand_on(this: Run, data: str) -> None:
    """Held-out and test comparisons go on untouched, so that the next stage finds them in this run too."""
    for role in ("comparisons_dev", "comparisons_test"):
        if runs.has_data(data, role):
            output = this.path / f"{role}.jsonl"
            shutil.copyfile(runs.find_data(data, role), output)
            this.add_output(role, output)
