"""Best of n: a model answers each prompt n times, and a reward keeps one answer of them.

What is kept comes as answers, and as demonstrations that `heed sft` can be run on: rejection sampling. The run's
results tell what every smaller n would have reached, without bias, from the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.errors import BadInput, NotFinite
from heedlm.models.chat import Chat
from heedlm.models.compute import find_device
from heedlm.models.load import load_with_tokenizer
from heedlm.ops.ranking import best_of_n_kl, unbiased_best_of_n
from heedlm.progress import progress
from heedlm.records import Answer, Answers, Demonstration, Message, Prompt, read, write
from heedlm.records.types import Row
from heedlm.rewards import Episodes, GoldReward, Judged, RewardSource, files_of
from heedlm.rollout import Engine, Native, Sampling
from heedlm.rollout.answering import answer, fitting
from heedlm.runs import Input, Run
from heedlm.train.loop import use_threads
from heedlm.train.state import seed_everything


class Config(StageConfig):
    """Settings of best-of-n."""

    model: str = Field(description="model that answers: a run or a Hugging Face folder")
    prompts: str = Field(description="prompts to answer: a file, or a village run")
    role: str = Field("prompts", description="which prompts of a run: prompts, prompts_dev or prompts_test")
    limit: PositiveInt | None = Field(None, description="answer only the first so many prompts")
    reward: RewardSource = Field(
        description="what decides which answer is best: a reward run, a rule, your own .py file"
    )
    n: PositiveInt = Field(16, description="answers for each prompt")
    watch_by: RewardSource | None = Field(
        None, description="who else judges the kept answers, for the curve; by default gold, if every prompt has one"
    )
    earlier: tuple[str, ...] = Field(
        (), description="earlier rounds (runs of this stage or files) whose demonstrations go in with this one's"
    )
    batch: PositiveInt = Field(16, description="prompts sampled at once")
    sampling: Sampling = Field(Sampling(max_new_tokens=48), description="temperature and length")
    engine: Engine = Field(Native(), description="what generates")
    device: Device = "auto"
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")


@dataclass
class _Found:
    """What was kept, and the scores of all answers: (P, n) once they are put together."""

    kept: list[Answers] = field(default_factory=list)
    reward: list[Tensor] = field(default_factory=list)
    judged: list[Tensor] = field(default_factory=list)


def run(config: Config, resume: Path | None = None) -> Run:
    """Sample, choose and return the run; its outputs have the roles `answers` and `demonstrations`.

    Raises:
        BadInput: A file, model or reward is unusable, or no kept answer can be shown as a demonstration.
        NotFinite: The reward of an answer is NaN or infinite.
    """
    use_threads(config.threads)
    device = find_device(config.device)
    seed_everything(config.seed)
    path = runs.find_data(config.prompts, config.role)
    prompts = read(path, Prompt, max_bad_rows=config.max_bad_rows, limit=config.limit)
    earlier = [row for source in config.earlier for row in _demonstrations(source, config.max_bad_rows)]
    model, tokenizer = load_with_tokenizer(runs.find_model(config.model), device=device)
    chat = Chat(tokenizer)
    prompts = fitting(prompts, chat, model)
    engine = config.engine.bind(model, tokenizer)
    reward = config.reward.open(chat, device)
    judge = _judge(config, prompts.rows, chat, device)
    for source in (config.reward, config.watch_by):
        if isinstance(source, Judged):
            source.prepare(prompts.rows, len(prompts.rows) * config.n, config.sampling.max_new_tokens)
    this = Run.resume(resume) if resume else Run.create("best_of_n", config, _inputs(config))
    with this:
        runs.quarantine(this, "prompts", prompts)
        found, sampled = _Found(), 0
        with progress("best_of_n", total=len(prompts.rows), unit="prompts") as bar:
            for start in range(0, len(prompts.rows), config.batch):
                asked = prompts.rows[start : start + config.batch]
                tokens = _choose(config, this, asked, engine, chat, reward, judge, start, found)
                sampled += tokens
                bar.advance(len(asked), tokens=tokens)
        shown = [made for made in map(_demonstration, found.kept) if made is not None]
        if not shown and not earlier:
            raise BadInput("no kept answer came to its end: raise sampling.max_new_tokens, or train the model longer")
        # A winner that won before is one demonstration.
        distinct = list({row.id: row for row in [*shown, *earlier]}.values())
        outputs: dict[str, Sequence[Row]] = {"answers": found.kept, "demonstrations": distinct}
        for role, rows in outputs.items():
            write(this.path / f"{role}.jsonl", rows)
            this.add_output(role, this.path / f"{role}.jsonl", rows=len(rows))
        this.note(
            prompts=len(found.kept),
            answers=len(found.kept) * config.n,
            tokens=sampled,
            left_out=len(found.kept) - len(shown),
            demonstrations=len(distinct),
            earlier=len(earlier),
            mean_tokens=sum(row.answers[0].tokens or 0 for row in found.kept) / len(found.kept),
            curve=_curve(found, config.n),
        )
    return this


def _choose(
    config: Config, this: Run, asked: Sequence[Prompt], engine: Any, chat: Chat, reward: Any, judge: Any, start: int,
    found: _Found,
) -> int:  # fmt: skip
    """Answer some prompts n times each and keep the best of each; returns the tokens sampled."""
    each = [prompt for prompt in asked for _ in range(config.n)]
    texts, rollouts = answer(engine, chat, each, config.sampling, seed=config.seed * 1_000_003 + start)
    episodes = Episodes(each, texts, rollouts)
    scores = _scores(reward, episodes, config.n)
    if not bool(scores.isfinite().all()):
        place = int((~scores.isfinite()).any(1).nonzero()[0])
        raise NotFinite(f"the reward of an answer to prompt {start + place + 1} is NaN or infinite")
    found.reward.append(scores)
    if judge is not None:
        found.judged.append(_scores(judge, episodes, config.n))
    lengths = rollouts.response_lengths.tolist()
    for place, (prompt, best) in enumerate(zip(asked, scores.argmax(1).tolist(), strict=True)):
        at = place * config.n + best
        kept = Answer(text=texts[at], model=this.name, ended=bool(rollouts.ended[at]), tokens=lengths[at])
        found.kept.append(Answers(id=prompt.id, prompt=prompt.messages, answers=(kept,), meta=prompt.meta))
    return sum(lengths)


def _scores(source: Any, episodes: Episodes, n: int) -> Tensor:
    """(P, n) rewards in float64; what a source gives on single tokens is summed up."""
    found = source.score(episodes)
    total = found.total if found.steps is None else found.total + found.steps.sum(1)
    scores: Tensor = total.double().cpu().view(-1, n)
    return scores


def _curve(found: _Found, n: int) -> list[Mapping[str, float]]:
    """For 1, 2, 4 … and n: the KL it costs (nats, at most), and the mean reward and verdict of the kept answers."""
    reward = torch.cat(found.reward)
    judged = torch.cat(found.judged) if found.judged else None
    rows: list[Mapping[str, float]] = []
    for size in sorted({*(2**k for k in range(n.bit_length()) if 2**k <= n), n}):
        row = {"n": size, "kl_nats": best_of_n_kl(size), "reward": _mean(reward, reward, size)}
        rows.append(row if judged is None else row | {"judged": _mean(reward, judged, size)})
    return rows


def _mean(reward: Tensor, wanted: Tensor, size: int) -> float:
    return float(unbiased_best_of_n(reward, wanted, size).mean())


def _demonstration(kept: Answers) -> Demonstration | None:
    """The answer as one to learn from; None if it is empty, or was cut: its end would be taught in the wrong place."""
    answer = kept.answers[0]
    if not answer.ended or not answer.text.strip():
        return None
    return Demonstration(
        messages=(*kept.prompt, Message(role="assistant", content=answer.text)),
        meta=kept.meta.model_copy(update={"source": answer.model}),
    )


def _demonstrations(source: str, max_bad_rows: float) -> list[Demonstration]:
    return read(runs.find_data(source, "demonstrations"), Demonstration, max_bad_rows=max_bad_rows).rows


def _judge(config: Config, prompts: Sequence[Prompt], chat: Chat, device: torch.device | str) -> Any:
    if config.watch_by is not None:
        return config.watch_by.open(chat, device)
    return GoldReward() if all(prompt.meta.task is not None for prompt in prompts) else None


def _inputs(config: Config) -> list[Input]:
    inputs = [Input("model", config.model), Input("prompts", config.prompts)]
    inputs += [Input(role, path) for role, path in files_of(config.reward).items()]
    judges = list(files_of(config.watch_by).values())
    inputs += [Input("judge" if len(judges) == 1 else f"judge_{n}", path) for n, path in enumerate(judges, 1)]
    return inputs + [Input("demonstrations", path) for path in config.earlier]
