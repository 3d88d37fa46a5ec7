"""Pretraining: clean text in, a base model out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.models import sizes
from heedlm.models.chat import Chat
from heedlm.models.compute import Compute, find_device
from heedlm.models.forward import context_limit
from heedlm.models.load import load_with_tokenizer, parameters, save_model
from heedlm.models.tokenizer import load_tokenizer, train_tokenizer
from heedlm.records import Document, read
from heedlm.runs import Input, Run
from heedlm.train.batching import Row
from heedlm.train.language import LanguageTraining, chunk
from heedlm.train.learner import Learner
from heedlm.train.loop import Cadence, train, use_threads
from heedlm.train.optim import Optim
from heedlm.train.state import seed_everything


class Config(StageConfig):
    """Settings of pretraining. The tiny values are those of docs/methods.md §9."""

    data: str = Field(description="text to learn: a file, or a village run")
    held_out: str | None = Field(None, description="held-out text; by default what the run given as data holds, if any")
    model: str | None = Field(None, description="go on training this model instead of a new one")
    size: Literal["tiny", "small", "base", "large"] = Field("tiny", description="size of a new model")
    tokenizer: str | None = Field(None, description="folder of a tokenizer; by default one is trained on the text")
    vocabulary: PositiveInt = Field(1024, description="tokens of a newly trained tokenizer")
    context: PositiveInt = Field(256, description="longest row a new model can take, in tokens")
    length: PositiveInt = Field(128, description="tokens of a training row")
    batch: PositiveInt = Field(16, description="rows a step")
    steps: PositiveInt = Field(1000, description="optimiser steps")
    budget: PositiveInt = Field(4096, description="tokens a forward and backward pass may hold")
    device: Device = "auto"
    compute: Compute = Field(Compute(), description="precision of training, and memory against time")
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")
    optim: Optim = Field(Optim(lr=3e-3), description="optimiser")
    cadence: Cadence = Field(Cadence(evaluate=100), description="evaluation and checkpoints")


def run(config: Config, resume: Path | None = None) -> Run:
    """Train and return the run; its model is the one with the lowest held-out loss, or the last without any."""
    use_threads(config.threads)
    device = find_device(config.device)
    seed_everything(config.seed)
    data = runs.find_data(config.data, "corpus")
    held_out = runs.find_data(config.held_out or config.data, "corpus_dev") if _has_held_out(config) else None
    inputs = [Input("corpus", config.data)]
    inputs += [Input("corpus_dev", config.held_out)] if config.held_out else []
    inputs += [Input("model", config.model)] if config.model else []
    documents = read(data, Document, max_bad_rows=config.max_bad_rows)
    if config.model:
        model, tokenizer = load_with_tokenizer(runs.find_model(config.model), device=device)
    else:
        tokenizer = (
            load_tokenizer(config.tokenizer)
            if config.tokenizer
            else train_tokenizer((d.text for d in documents.rows), config.vocabulary, config.seed)
        )
        model = sizes.create(config.size, tokenizer, context=config.context, seed=config.seed, device=device)
    config.compute.apply(model)
    chat = Chat(tokenizer)
    this = Run.resume(resume) if resume else Run.create("pretrain", config, inputs)
    with this:
        runs.quarantine(this, "corpus", documents)
        length = min(config.length, context_limit(model) or config.length)
        rows = _rows(chat, documents.rows, length)
        dev = _rows(chat, read(held_out, Document).rows, length) if held_out else []
        learner = Learner(model, config.optim, config.steps)
        method = LanguageTraining(
            learner,
            rows,
            dev,
            length=length,
            batch=config.batch,
            budget=config.budget,
            seed=config.seed,
        )
        train(this, method, steps=config.steps, cadence=config.cadence, title="pretrain")
        method.best.restore()
        results: dict[str, float] = {"parameters": parameters(model), "tokens": sum(map(len, rows))}
        if dev:
            results |= {"held_out_loss": method.best.value, "best_step": method.best.step}
        this.note(**results)
        save_model(
            model,
            chat.tokenizer,
            this.path / "model",
            card=runs.model_card(this, "A language model trained on plain text."),
        )
        this.add_output("model", this.path / "model")
    return this


def _has_held_out(config: Config) -> bool:
    return config.held_out is not None or runs.has_data(config.data, "corpus_dev")


def _rows(chat: Chat, documents: list[Document], length: int) -> list[Row]:
    return [row for document in documents for row in chunk(chat.document_ids(document.text), length)]
