"""Supervised fine-tuning: demonstrations in, a model that answers out."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt

from heedlm import runs
from heedlm.config import Device, StageConfig
from heedlm.errors import BadInput
from heedlm.feedback.source import from_feedback
from heedlm.models.adapters import Lora, save_outputs
from heedlm.models.chat import Chat
from heedlm.models.compute import Compute, find_device
from heedlm.models.forward import context_limit
from heedlm.models.load import load_with_tokenizer, parameters
from heedlm.records import Demonstration, Rows, read
from heedlm.records.splitting import split_by_prompt
from heedlm.runs import Input, Run
from heedlm.train.batching import Row, pack
from heedlm.train.language import LanguageTraining
from heedlm.train.learner import Learner
from heedlm.train.loop import Cadence, train, use_threads
from heedlm.train.optim import Optim
from heedlm.train.state import seed_everything


class Config(StageConfig):
    """Settings of supervised fine-tuning. The tiny values are those of docs/methods.md §9."""

    model: str = Field(description="model to fine-tune: a run or a Hugging Face folder")
    data: str = Field(description="demonstrations: a file, a village run, or feedback.db#PROJECT")
    held_out: str | None = Field(
        None, description="held-out demonstrations; by default what the run given as data holds"
    )
    held_out_share: float = Field(0.05, ge=0, lt=1, description="share split off when no held-out file is given")
    length: PositiveInt = Field(256, description="tokens of a packed row; longer conversations lose their oldest turns")
    batch: PositiveInt = Field(8, description="packed rows a step")
    epochs: PositiveFloat = Field(3.0, description="passes over the demonstrations")
    steps: PositiveInt | None = Field(None, description="optimiser steps, in place of epochs")
    budget: PositiveInt = Field(4096, description="tokens a forward and backward pass may hold")
    device: Device = "auto"
    compute: Compute = Field(Compute(), description="precision of training, and memory against time")
    lora: Lora = Field(Lora(), description="train low-rank adapters beside frozen weights")
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")
    optim: Optim = Field(Optim(lr=2e-3), description="optimiser")
    cadence: Cadence = Field(Cadence(evaluate=50), description="evaluation and checkpoints")


def run(config: Config, resume: Path | None = None) -> Run:
    """Fine-tune on the answers alone and return the run; its model has the lowest held-out loss of all evaluated."""
    config = from_feedback(config, "data", "held_out")
    use_threads(config.threads)
    device = find_device(config.device)
    seed_everything(config.seed)
    data = runs.find_data(config.data, "demonstrations")
    own_split = config.held_out is None and not runs.has_data(config.data, "demonstrations_dev")
    inputs = [Input("model", config.model), Input("demonstrations", config.data)]
    inputs += [Input("demonstrations_dev", config.held_out)] if config.held_out else []
    demonstrations = read(data, Demonstration, max_bad_rows=config.max_bad_rows)
    model, tokenizer = load_with_tokenizer(runs.find_model(config.model), device=device)
    config.compute.apply(model)
    trained = config.lora.on(model, seed=config.seed) if config.lora.rank else model
    chat = Chat(tokenizer)
    limit = min(config.length, context_limit(model) or config.length)
    demonstrations, rows = _rows(chat, demonstrations, limit)
    if own_split:
        asked = [demonstration.messages[:-1] for demonstration in demonstrations.rows]
        rows, dev = split_by_prompt(rows, asked, config.held_out_share)
    else:
        held_out = runs.find_data(config.held_out or config.data, "demonstrations_dev")
        _, dev = _rows(chat, read(held_out, Demonstration), limit)
    if not rows:
        raise BadInput(f"{data}: no demonstrations left to train on after the held-out split; lower held_out_share")
    this = Run.resume(resume) if resume else Run.create("sft", config, inputs)
    with this:
        runs.quarantine(this, "demonstrations", demonstrations)
        per_epoch = len(pack(rows, limit)) / config.batch
        steps = config.steps or max(1, round(config.epochs * per_epoch))
        method = LanguageTraining(
            Learner(trained, config.optim, steps),
            rows,
            dev,
            length=limit,
            batch=config.batch,
            budget=config.budget,
            seed=config.seed,
        )
        train(this, method, steps=steps, cadence=config.cadence, title="sft")
        method.best.restore()
        results: dict[str, float] = {"parameters": parameters(model), "demonstrations": len(rows), "steps": steps}
        if config.lora.rank:
            results["trained_parameters"] = parameters(trained)
        if dev:
            results |= {"held_out_loss": method.best.value, "best_step": method.best.step}
        this.note(**results)
        save_outputs(this, trained, chat.tokenizer, "A model fine-tuned on demonstrations.")
    return this


def _rows(chat: Chat, demonstrations: Rows[Demonstration], limit: int) -> tuple[Rows[Demonstration], list[Row]]:
    """Token rows of at most `limit` tokens; a conversation whose last turn alone is too long is put aside."""
    rows: list[Row] = []

    def too_long(demonstration: Demonstration) -> str | None:
        *context, answer = demonstration.messages
        room = limit - len(chat.response_ids(answer.content))
        if room <= 0:
            return f"its last answer alone has {limit - room} tokens, a row holds {limit}: raise length= or shorten it"
        try:
            ids, mask = chat.conversation([*chat.truncate(context, room), answer])
        except BadInput as error:
            return str(error)
        if len(ids) > limit:
            return f"{len(ids)} tokens, more than a row's {limit}: raise length= or shorten it"
        rows.append(Row(ids, mask))
        return None

    return demonstrations.filter(too_long), rows
