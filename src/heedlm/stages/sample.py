"""Sampling: prompts in, K answers for each out."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveInt

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.models.chat import Chat
from heedlm.models.compute import find_device
from heedlm.models.load import load_with_tokenizer
from heedlm.progress import progress
from heedlm.records import Answer, Answers, Prompt, read, write
from heedlm.rollout import Engine, Native, Sampling
from heedlm.rollout.answering import answer, fitting
from heedlm.runs import Input, Run
from heedlm.train.loop import use_threads
from heedlm.train.state import seed_everything


class Config(StageConfig):
    """Settings of sampling."""

    model: str = Field(description="model that answers: a run or a Hugging Face folder")
    prompts: str = Field(description="prompts to answer: a file, or a village run")
    role: str = Field("prompts", description="which prompts of a run: prompts, prompts_dev or prompts_test")
    limit: PositiveInt | None = Field(None, description="answer only the first so many prompts")
    answers: int = Field(4, ge=1, le=9, description="answers for each prompt (K)")
    batch: PositiveInt = Field(64, description="prompts sampled at once")
    sampling: Sampling = Field(Sampling(), description="temperature and length")
    engine: Engine = Field(Native(), description="what generates")
    device: Device = "auto"
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")


def run(config: Config, resume: Path | None = None) -> Run:
    """Sample and return the run; its output has the role `answers`."""
    use_threads(config.threads)
    device = find_device(config.device)
    seed_everything(config.seed)
    path = runs.find_data(config.prompts, config.role)
    prompts = read(path, Prompt, max_bad_rows=config.max_bad_rows, limit=config.limit)
    model, tokenizer = load_with_tokenizer(runs.find_model(config.model), device=device)
    chat = Chat(tokenizer)
    prompts = fitting(prompts, chat, model)
    engine = config.engine.bind(model, tokenizer)
    this = (
        Run.resume(resume)
        if resume
        else Run.create("sample", config, [Input("model", config.model), Input("prompts", config.prompts)])
    )
    with this:
        runs.quarantine(this, "prompts", prompts)
        rows: list[Answers] = []
        tokens = 0
        with progress("sample", total=len(prompts.rows), unit="prompts") as bar:
            for start in range(0, len(prompts.rows), config.batch):
                part = [p for p in prompts.rows[start : start + config.batch] for _ in range(config.answers)]
                texts, rollouts = answer(engine, chat, part, config.sampling, seed=config.seed * 1_000_003 + start)
                lengths = rollouts.response_lengths.tolist()
                made = [
                    Answer(text=text, model=this.name, ended=ended, tokens=length)
                    for text, ended, length in zip(texts, rollouts.ended.tolist(), lengths, strict=True)
                ]
                for place in range(0, len(part), config.answers):
                    p = part[place]
                    rows.append(
                        Answers(
                            id=p.id,
                            prompt=p.messages,
                            answers=tuple(made[place : place + config.answers]),
                            meta=p.meta,
                        )
                    )
                tokens += sum(lengths)
                bar.advance(len(part) // config.answers, tokens=sum(lengths))
        output = this.path / "answers.jsonl"
        write(output, rows)
        this.add_output("answers", output, rows=len(rows))
        this.note(
            prompts=len(rows),
            answers=len(rows) * config.answers,
            mean_tokens=tokens / len(rows) / config.answers,
        )
    return this
